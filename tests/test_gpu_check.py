"""The check on a GPU: its tiny form from end to end, and the folder that carries it."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import torch
from lossylens.errors import BitstreamError
from lossylens.registry.plugins import load_registry
from PIL import Image

ROOT = Path(__file__).parents[1]
COUNTS = (1, 4, 10, 18, 32)
TINY = ("qwen2.5-vl tiny", "internvl3 tiny", "janus-pro tiny")
#: Codecs that have a learned transform, as they are installed.
LEARNED = [
    each.spec.name
    for each in load_registry(strict=False).all("codec")
    if each.spec.category == "learned"
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("compressai") is None, reason="needs the learned codecs"
    ),
]


def call(*command, expected=0):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=3000)
    assert done.returncode == expected, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """What the tiny form printed and wrote; time is no matter here."""
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    script = ROOT / "tools/gpu_check"
    given = ("--here", "--tiny", "--json", path, "--seconds", 36000)
    done = call(sys.executable, script, *given)
    return done.stdout, json.loads(path.read_text(encoding="utf-8"))


def rows(content, **wanted):
    return [
        row for row in content["rows"] if all(row[name] == value for name, value in wanted.items())
    ]


def value(content, part, subject, measure):
    [row] = rows(content, part=part, subject=subject, measure=measure)
    return row["value"]


def test_all_parts_ran_and_nothing_is_at_fault(tiny):
    _, content = tiny
    assert content["errors"] == {}
    assert [row for row in content["rows"] if row["mark"] == "FAULT"] == []
    assert set(content["seconds"]) == {"card", "answering", "codecs", "equality", "adaptors"}
    assert "tiny" in content["facts"]["form"]
    assert content["facts"]["torch"] == torch.__version__.partition("+")[0]


def test_the_table_comes_last_and_holds_every_row(tiny):
    printed, content = tiny
    lines = printed.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("part "))
    table = lines[head + 1 :]
    assert len(table) == len(content["rows"])
    for line, row in zip(table, content["rows"], strict=True):
        assert line.startswith(row["part"])
        assert row["measure"] in line
        assert line.endswith(row["note"])


def test_rates_of_the_device(tiny):
    _, content = tiny
    assert value(content, "card", "bfloat16", "product") > 0
    assert value(content, "card", "memory", "copy") > 0


@pytest.mark.parametrize("model", TINY)
def test_questions_per_second_of_each_architecture(tiny, model):
    _, content = tiny
    assert value(content, "answering", model, "one at a time") > 0
    for count in COUNTS:
        name = f"{count} questions per image"
        assert value(content, "answering", model, name) > 0
        assert value(content, "answering", model, f"{name}: of the roofline") > 0
    for phase in ("vision", "prefill", "questions", "decoding", "rest", "preprocessing"):
        assert value(content, "answering", model, f"time: {phase}") > 0
    assert value(content, "answering", model, "largest batch") >= 1
    # A CPU does not count its memory, and that is said.
    [memory] = rows(content, subject=model, measure="memory of the largest batch")
    assert (memory["value"], memory["mark"]) == (None, "not measured")


@pytest.mark.parametrize("model", TINY)
def test_batched_answers_are_those_of_generate(tiny, model):
    _, content = tiny
    [row] = rows(content, part="equality", subject=model)
    assert row["value"] == 1
    # Else equality would say little.
    distinct = int(row["note"].partition("tokens, ")[2].split()[0])
    assert distinct > 1


def test_nano_is_asked_on_both_devices(tiny):
    _, content = tiny
    assert value(content, "equality", "nano", "cpu as cpu") == 1
    assert len(rows(content, part="equality", subject="nano", measure="on cpu")) == 2


@pytest.mark.parametrize("codec", LEARNED)
def test_learned_codecs_are_measured_or_it_is_said_why_not(tiny, codec):
    _, content = tiny
    measured = 0
    for weights in ("nano", "random", "full size"):
        found = rows(content, part="codecs", subject=f"{codec} {weights}")
        if not found or found[0]["mark"] == "not measured":
            assert all(row["note"] for row in found)
            continue
        measured += 1
        names = [row["measure"] for row in found]
        assert {"encoding, batch 1", "decoding, batch 4"} <= set(names)
        assert value(content, "codecs", f"{codec} {weights}", "cpu and cpu decode alike") == 1
    if codec in ("elic", "tcm", "mlicpp"):
        assert measured == 2


def test_adaptors_are_trained_for_some_steps(tiny):
    _, content = tiny
    specs = [each.spec for each in load_registry(strict=False).all("adaptor")]
    trained = [spec.name for spec in specs if spec.trainer]
    for name in trained or ["adaptors"]:
        [row] = rows(content, part="adaptors", subject=name, measure="training")
        assert (row["value"] or 0) > 0 or row["note"]
    if "cve" in trained:
        assert value(content, "adaptors", "cve", "training") > 0


def test_published_sizes():
    """The configurations have the parameters that the plugins say."""
    script = """
import sys, tempfile, json
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from gpu_parts.published import architectures
found = {}
for each in architectures(tiny=False):
    with torch.device("meta"):
        model = each.vlm.model_class(each.make(Path(tempfile.mkdtemp())))
    found[each.name] = sum(parameter.numel() for parameter in model.parameters()) / 1e6
print(json.dumps(found))
"""
    found = json.loads(call(sys.executable, "-c", script, ROOT / "benchmarks").stdout)
    registry = load_registry(strict=False)
    assert set(found) == {
        "qwen2.5-vl-3b",
        "qwen2.5-vl-7b",
        "internvl3-8b",
        "janus-pro-7b",
        "llava-1.5-7b",
        "llava-onevision-7b",
    }
    for name, size in found.items():
        assert size == pytest.approx(registry.find("vlm", name).spec.parameters, abs=1)


def test_without_time_all_is_said_not_to_be_measured(tmp_path):
    """The process ends by itself, with a table."""
    path = tmp_path / "gpu.json"
    script = ROOT / "benchmarks/gpu.py"
    done = call(sys.executable, script, "--tiny", "--json", path, "--seconds", 1e-3, expected=3)
    assert "time is up" in done.stdout
    assert json.loads(path.read_text(encoding="utf-8"))["rows"][-1]["measure"] == "time is up"


def test_without_a_gpu_the_full_form_says_so(tmp_path):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, ROOT / "benchmarks/gpu.py", "--json", tmp_path / "gpu.json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "there is no GPU that torch can use; --tiny works on a CPU"
    )


class Says:
    """A codec whose pictures are of one grey, or which refuses."""

    def __init__(self, grey):
        self.grey = grey

    def decode(self, bitstream):
        if self.grey is None:
            raise BitstreamError("refused")
        return Image.new("RGB", (4, 4), (self.grey,) * 3)


def test_what_is_contrary_to_a_promise_is_marked(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    codecs, record = (import_module(f"gpu_parts.{name}") for name in ("codecs", "record"))
    for ours, theirs, expected in (
        (7, 7, "equal"),
        (7, 8, "different"),
        (None, 8, "detected"),
        (8, None, "detected"),
    ):
        found, other = (codecs.decoded(Says(grey), b"") for grey in (ours, theirs))
        assert codecs.compared(found, other) == expected
    kept = record.Record(tmp_path / "gpu.json")
    kept.skip("codecs", "some", "all", "no reason")
    kept.add("codecs", "some", "speed", 1, mark=record.SLOW)
    assert not kept.faulty
    with kept.part("codecs", 1), kept.guard("codecs", "other"):
        raise ValueError("it broke")
    assert kept.faulty
    content = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    [row] = rows(content, mark="FAULT")
    assert (row["subject"], row["note"]) == ("other", "ValueError: it broke")
    assert "it broke" in content["errors"]["codecs other"]
    assert "ValueError: it broke" in kept.table().splitlines()[-1]


def checked(folder):
    """Return the manifest of a packed folder, which must be what it says."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    names = {wheel["file"] for wheel in manifest["wheels"]}
    assert names == {path.name for path in (folder / "wheels").iterdir()}
    for wheel in manifest["wheels"]:
        data = (folder / "wheels" / wheel["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (wheel["bytes"], wheel["sha256"])
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 64 * 2**20
    return manifest


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A folder with our own wheels alone: no package index is asked."""
    folder = tmp_path_factory.mktemp("pack") / "check"
    call(sys.executable, ROOT / "tools/gpu_check", folder, "--ours")
    return folder


def test_our_distributions_are_packed(ours):
    manifest = checked(ours)
    names = {wheel["name"] for wheel in manifest["wheels"]}
    assert all(wheel["ours"] for wheel in manifest["wheels"])
    assert {"lossylens", "lossylens-vlm-nano", "lossylens-codec-elic"} <= names
    assert {"compressai", "omegaconf", "pluggy"} <= set(manifest["lacking"])
    assert {"torch", "transformers", "numpy"} <= set(manifest["assumed"])
    benchmark = {path.name for path in (ROOT / "benchmarks/gpu_parts").glob("*.py")}
    assert {path.name for path in (ours / "benchmarks/gpu_parts").iterdir()} == benchmark


def test_the_packed_check_runs_with_what_was_packed(ours, tmp_path):
    """What it imports of ours is what it installed, and nothing else is touched."""
    target, path = tmp_path / "target", tmp_path / "gpu.json"
    given = ("--target", target, "--tiny", "--only", "card", "--json", path)
    call(sys.executable, ours / "run.py", *given)
    assert (target / "lossylens/__init__.py").is_file()
    assert (target / "lossylens_codec_elic/plugin.py").is_file()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert value(content, "card", "bfloat16", "product") > 0


def test_a_damaged_wheel_is_refused(ours, tmp_path):
    wheel = next((ours / "wheels").glob("lossylens_codec_jpeg*.whl"))
    data = wheel.read_bytes()
    wheel.write_bytes(data[:-1])
    try:
        done = call(sys.executable, ours / "run.py", "--tiny", expected=1)
    finally:
        wheel.write_bytes(data)
    assert f"{wheel.name} is damaged" in done.stderr


def test_a_folder_that_is_not_empty_is_left_alone(ours):
    before = sorted(ours.rglob("*"))
    done = call(sys.executable, ROOT / "tools/gpu_check", ours, "--ours", expected=2)
    assert f"{ours} is not empty" in done.stderr
    assert sorted(ours.rglob("*")) == before


def test_everything_else_is_packed_too(tmp_path):
    """Wheels for Python 3.12, from the package index."""
    folder = tmp_path / "check"
    command = [sys.executable, ROOT / "tools/gpu_check", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode == 2 and "cannot be downloaded" in done.stderr:
        pytest.skip("no package index is reached")
    assert done.returncode == 0, done.stderr
    manifest = checked(folder)
    assert manifest["lacking"] == {}
    wheels = {wheel["name"]: wheel for wheel in manifest["wheels"]}
    assert {"compressai", "omegaconf", "pluggy", "accelerate"} <= set(wheels)
    # What is assumed is not carried, and what is carried says for whom.
    assert not set(wheels) & set(manifest["assumed"])
    assert all(wheel["ours"] or wheel["needed"] for wheel in wheels.values())
    for wheel in wheels.values():
        tags = wheel["file"].removesuffix(".whl").split("-")[-3:]
        assert tags[0].startswith(("py3", "py2.py3", "cp312")) or tags[1] == "abi3"
        assert zipfile.is_zipfile(folder / "wheels" / wheel["file"])
