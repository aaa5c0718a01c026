# make demo   the whole thing at work, ending in a report
# make benchmark   the demo's larger grid
# make test   all tests
# make faults ROUNDS=50   faults injected into runs, at random moments that follow from SEED
# make lint   ruff, mypy, which room may import which, manifests, and the documentation's links
# make docs   the documentation site, in dist/site, with figures of the demo
# make bench  ratios measured side by side
# make dist   a wheel of every distribution and the versions that go with them, in dist/
# make gpu-check   a folder that carries the check on a GPU to a machine without an index

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DISTRIBUTIONS := core toolkit $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/*/pyproject.toml))
MANIFESTS := $(addsuffix /pyproject.toml,$(DISTRIBUTIONS)) constraints.txt Makefile
EDITABLE := $(foreach d,$(DISTRIBUTIONS),-e ./$(d)$(if $(filter plugins/reports/html,$(d)),[figures],))
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO ?= runs/demo
BENCHMARK ?= runs/benchmark
ROUNDS ?= 50
SEED ?= 21
GPU_CHECK ?= dist/gpu-check

.PHONY: demo benchmark test faults lint docs bench dist gpu-check clean

$(VENV)/installed: $(MANIFESTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt hatchling editables
	$(PIP) install --quiet -c constraints.txt --no-build-isolation $(EDITABLE)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(PIP) install --quiet -c constraints.txt -r requirements-dev.txt
	touch $@

demo: $(VENV)/installed
	mkdir -p $(DEMO)
	$(BIN)/lossylens scenes export pope --images 12 --seed 8 $(DEMO)/POPE.tsv
	$(BIN)/lossylens run examples/demo.yaml run.out=$(DEMO) tasks.pope.data=$(DEMO)/POPE.tsv

benchmark: $(VENV)/installed
	mkdir -p $(BENCHMARK)
	$(BIN)/lossylens scenes export pope --images 100 --seed 8 $(BENCHMARK)/POPE.tsv
	$(BIN)/lossylens run examples/benchmark.yaml run.out=$(BENCHMARK) tasks.pope.data=$(BENCHMARK)/POPE.tsv

faults: $(VENV)/installed-dev
	ROUNDS=$(ROUNDS) SEED=$(SEED) $(BIN)/python -m pytest -x tests/faults

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

$(DEMO)/report/index.html: $(VENV)/installed
	$(MAKE) demo

# Every link to a page or a heading is checked, and the form of links to elsewhere.
docs: $(VENV)/installed-dev $(DEMO)/report/index.html
	$(BIN)/lossylens report $(DEMO) --format svg
	DEMO_FIGURES=$(DEMO)/report/figures $(BIN)/python -m mkdocs build --strict --quiet

lint: $(VENV)/installed-dev docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	BIN=$(BIN) ./tools/typecheck
	$(BIN)/python tools/manifests --check

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/answering.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/encoding.py
	$(BIN)/python benchmarks/executors.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/listing.py
	$(BIN)/python benchmarks/neural_codecs.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/shared_machine.py

dist: $(VENV)/installed-dev
	rm -f dist/*.whl dist/constraints.txt
	for d in $(DISTRIBUTIONS); do \
	  $(BIN)/python -m build --quiet --wheel --no-isolation --outdir dist $$d || exit 1; done
	$(BIN)/python tools/manifests --constraints dist > dist/constraints.txt

gpu-check: $(VENV)/installed-dev
	$(BIN)/python tools/gpu_check $(GPU_CHECK)

clean:
	rm -rf $(VENV) dist runs
