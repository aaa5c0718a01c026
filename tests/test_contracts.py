"""The contracts met by small plugins: adaptors, batches, several images, executors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lossylens.store.database import Store
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

TOYS = Path(__file__).parent / "toys"
SHAPES = ("condition", "entry", "states")

TRAINING = """
out: {out}
vlm: {{nano: {{batch_images: 4}}}}
codecs:
  jpeg: {{levels: [q5]}}
  elic: {{variant: nano, levels: [lambda0.004]}}
pictures: {{tasks: {{scenes: {{images: 4, size: 96, seed: 5}}}}}}
validation: {{tasks: {{scenes: {{images: 1, size: 128, seed: 6}}}}}}
"""


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lossylens", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(TOYS),
            "LOSSYLENS_PLUGINS": "toys,jpeg,elic,nano,scenes,toolkit",
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def command(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    process = start(folder, *arguments, **environment)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


def trained(folder: Path, shape: str, out: str, *overrides: str, **environment: str) -> Path:
    config = folder / f"{out}.yaml"
    text = TRAINING.format(out=out)
    if shape != "condition":
        text = text.replace("  jpeg: {levels: [q5]}\n", "")
    config.write_text(text)
    command(folder, "train", "adaptor", f"toy-{shape}", config.name, *overrides, **environment)
    return folder / out / "adaptor.safetensors"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("training")
    return {shape: trained(folder, shape, shape, "cache=cache") for shape in SHAPES}


def test_a_training_that_is_killed_goes_on(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    config = tmp_path / "states.yaml"
    config.write_text(TRAINING.format(out="states").replace("  jpeg: {levels: [q5]}\n", ""))
    arguments = ("train", "adaptor", "toy-states", config.name, "cache=cache")
    process = start(tmp_path, *arguments, TOY_DELAY="0.5")
    for _ in range(2000):
        if any((tmp_path / "states" / "states").glob("step-00000000[2-5]")):
            break
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not (tmp_path / "states" / "adaptor.safetensors").exists()
    said = command(tmp_path, *arguments)
    assert "Going on at step" in said
    found = load_file(tmp_path / "states" / "adaptor.safetensors")
    undisturbed = load_file(checkpoints["states"])
    assert found.keys() == undisturbed.keys()
    assert all((found[name] == undisturbed[name]).all() for name in found)


def test_a_folder_holds_one_training(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    folder = checkpoints["entry"].parents[1]
    said = command(folder, "train", "adaptor", "toy-entry", "entry.yaml", "seed=1", code=2)
    assert "holds a training with seed 0, not 1" in said.splitlines()[-1]
    said = command(folder, "train", "adaptor", "toy-blur", "entry.yaml", code=2)
    assert "'toy-blur' is not trained: it works as it is" in said


RUN = """
codecs:
  jpeg: {{levels: [q5]}}
  elic: {{variant: nano, levels: [lambda0.004, lambda0.008]}}
vlms: {{nano: {{batch_images: 4}}}}
tasks: {{scenes: {{images: 3, size: 96, topics: [background, existence]}}}}
adaptors:
  condition: {{plugin: toy-condition, checkpoint: {condition}}}
  entry: {{plugin: toy-entry, checkpoints: {{nano: {entry}}}}}
  states: {{plugin: toy-states, checkpoint: {states}}}
  toy-blur:
run: {{out: run, workers: 1}}
"""


def test_a_grid_has_the_cells_that_exist(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    (tmp_path / "run.yaml").write_text(RUN.format(**checkpoints))
    said = command(tmp_path, "run", "run.yaml")
    assert "codec jpeg has no latents" in said
    with Store(tmp_path / "run", writable=False) as store:
        cells = store.rows(
            "SELECT adaptor_label, codec_label, level, value, failed FROM cells"
            " JOIN scores ON cell = key ORDER BY position"
        )
        absences = store.rows("SELECT * FROM absences ORDER BY position")
        timings = dict(
            map(tuple, store.rows("SELECT stage, sum(items) FROM timings GROUP BY stage"))
        )
    assert [(row[0], row[1], row[2]) for row in cells] == [
        *(("none", codec, level) for codec, level in POINTS),
        ("condition", "uncompressed", "raw"),
        ("condition", "jpeg", "q5"),
        ("condition", "elic", "lambda0.004"),
        ("entry", "elic", "lambda0.004"),
        ("states", "elic", "lambda0.004"),
        ("toy-blur", "jpeg", "q5"),
    ]
    assert all(row["failed"] == 0 for row in cells)
    reasons = {
        (row["adaptor_label"], row["codec_label"], row["level"]): row["reason"] for row in absences
    }
    assert reasons["entry", "uncompressed", "raw"] == "codec uncompressed has no latents"
    assert reasons["condition", "elic", "lambda0.008"] == "not trained for elic lambda0.008"
    assert reasons["toy-blur", "elic", "lambda0.004"] == "elic has no blocks"
    assert timings["encode"] == 9


POINTS = (("uncompressed", "raw"), ("jpeg", "q5"), ("elic", "lambda0.004"), ("elic", "lambda0.008"))


def test_an_adaptor_that_serves_nothing_is_an_error(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    (tmp_path / "run.yaml").write_text(RUN.format(**checkpoints))
    only = ("codecs={jpeg: {levels: [q5]}}", "adaptors={toy-states: {checkpoint: none.st}}")
    said = command(tmp_path, "run", "run.yaml", *only, code=2)
    assert "no checkpoint" in said.splitlines()[-1]
    only = (only[0], f"adaptors={{toy-states: {{checkpoint: {checkpoints['states']}}}}}")
    said = command(tmp_path, "run", "run.yaml", *only, code=2)
    assert "adaptors.toy-states: serves nothing of this grid" in said.splitlines()[-1]
    # A checkpoint of another method is refused by name.
    only = (f"adaptors={{toy-states: {{checkpoint: {checkpoints['entry']}}}}}",)
    said = command(tmp_path, "run", "run.yaml", *only, code=2)
    assert "is a checkpoint of toy-entry, not toy-states" in said


def test_batches_and_workers_apart(tmp_path: Path) -> None:
    """A codec that wants several images gets them; bytes do not depend on it, or on where."""
    found = {}
    for name in ("local", "toy-apart"):
        (tmp_path / f"{name}.yaml").write_text(
            "codecs: {toy-batches: }\nvlms: {nano: }\n"
            "tasks: {scenes: {images: 9, size: 96, topics: [background]}}\n"
            f"run: {{out: {name}, workers: 1, executor: {name}}}\n"
        )
        log = tmp_path / f"{name}.log"
        command(tmp_path, "run", f"{name}.yaml", TOY_LOG=str(log))
        lines = log.read_text().split("\n")
        # On a busy machine the first batches, by which the time is judged, may be smaller.
        assert 1 < max(int(line.split()[1]) for line in lines if line.startswith("encode")) <= 4
        assert 1 < max(int(line.split()[1]) for line in lines if line.startswith("decode")) <= 4
        with Store(tmp_path / name, writable=False) as store:
            found[name] = [
                [tuple(row) for row in store.rows(f"SELECT * FROM {table}")]
                for table in ("encodings", "predictions", "scores")
            ]
        assert list((tmp_path / name / "bitstreams").rglob("*"))
    assert found["local"] == found["toy-apart"]


def test_questions_about_several_images(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "codecs: {jpeg: {levels: [q5]}}\nvlms: {nano: }\ntasks: {toy-several: }\n"
        "run: {out: run, workers: 1}\n"
    )
    command(tmp_path, "run", "run.yaml")
    with Store(tmp_path / "run", writable=False) as store:
        rows = store.rows("SELECT failed, samples, images FROM scores")
        encoded = store.rows("SELECT count(*) FROM encodings")[0][0]
        texts = store.rows("SELECT text FROM predictions")
    assert [tuple(row) for row in rows] == [(0, 16, 4)] * 2
    assert encoded == 4
    assert all(row["text"] is not None for row in texts)
