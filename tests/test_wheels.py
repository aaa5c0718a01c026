"""Wheels of the core, a codec and a task work in a fresh environment without torch."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = ("core", "toolkit", "plugins/codecs/jpeg", "plugins/tasks/pope")
GOLDEN = ROOT / "plugins/tasks/pope/tests/golden"

pytestmark = pytest.mark.slow


def call(*command: str | Path) -> str:
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for distribution in DISTRIBUTIONS:
        build = ("build", "--quiet", "--wheel", "--no-isolation", "--outdir", folder)
        call(sys.executable, "-m", *build, ROOT / distribution)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new virtual environment in which only the wheels are installed."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    call(programs / "python", *pip, "-c", ROOT / "constraints.txt", *wheels)
    return programs


def test_wheels_hold_the_package_and_no_tests(wheels: list[Path]) -> None:
    assert len(wheels) == len(DISTRIBUTIONS)
    for wheel in wheels:
        names = zipfile.ZipFile(wheel).namelist()
        assert any(name.endswith("plugin.py") or name.endswith("plugins.py") for name in names)
        # Templates of `lossylens new` hold the tests of projects to be made.
        assert not [name for name in names if "tests/" in name and "/templates/" not in name]


def test_environment_has_no_torch(environment: Path) -> None:
    script = "import importlib.util as u; print(u.find_spec('torch'))"
    assert call(environment / "python", "-c", script).strip() == "None"


def test_wheels_score(environment: Path, tmp_path: Path) -> None:
    data = tmp_path / "POPE.tsv"
    data.write_bytes(gzip.decompress((GOLDEN / "task-pope.tsv.gz").read_bytes()))
    predictions = GOLDEN / "task-pope.predictions.json"
    command = ("score", "pope", "--data", data, "--predictions", predictions, "--json")
    result = json.loads(call(environment / "lossylens", *command))
    expected = json.loads((GOLDEN / "task-pope.expected.json").read_text())["metrics"]
    scores = [metrics["Overall"]["acc"] for metrics in (result["metrics"], expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-9)


def test_wheels_encode_and_decode(environment: Path, tmp_path: Path) -> None:
    image, bitstream, decoded = (tmp_path / name for name in ("a.png", "a.bin", "b.png"))
    Image.linear_gradient("L").convert("RGB").save(image)
    printed = call(environment / "lossylens", "encode", "jpeg", "q5", image, bitstream)
    assert str(bitstream.stat().st_size) in printed
    call(environment / "lossylens", "decode", "jpeg", "q5", bitstream, decoded)
    with Image.open(decoded) as image_again:
        assert image_again.size == (256, 256)


def test_wheels_list_their_plugins(environment: Path) -> None:
    listed = call(environment / "lossylens", "plugins")
    assert "jpeg" in listed
    assert "pope" in listed
