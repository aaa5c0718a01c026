"""All manifests have the same licence, classifiers and addresses, and a version in one place."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def manifests(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, root / "tools/manifests", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that the program reads, of three distributions."""
    names = ("pyproject.toml", "core/pyproject.toml", "toolkit/pyproject.toml", "constraints.txt")
    for name in (*names, "plugins/codecs/jpeg/pyproject.toml", "tools/manifests"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def test_ours_agree() -> None:
    done = manifests(ROOT, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_departure_is_named_and_mended(copy: Path) -> None:
    path = copy / "plugins/codecs/jpeg/pyproject.toml"
    text = path.read_text()
    path.write_text(text.replace('"Typing :: Typed"', '"Typing :: Stubs Only"'))
    done = manifests(copy, "--check")
    assert done.returncode == 1
    assert "plugins/codecs/jpeg/pyproject.toml: departs from tool.lossylens" in done.stderr
    assert manifests(copy).returncode == 0
    assert path.read_text() == text


def test_an_address_gets_into_all_of_them(copy: Path) -> None:
    path = copy / "pyproject.toml"
    path.write_text(
        path.read_text().replace('repository = ""', 'repository = "https://example.org/it"')
    )
    assert manifests(copy).returncode == 0
    for name in ("core", "toolkit", "plugins/codecs/jpeg"):
        text = (copy / name / "pyproject.toml").read_text()
        assert 'Issues = "https://example.org/it/issues"' in text
    assert manifests(copy, "--check").stderr == ""


def test_a_second_version_is_named(copy: Path) -> None:
    path = copy / "core/pyproject.toml"
    path.write_text(
        path.read_text().replace('dynamic = ["version"]', 'version = "1"\ndynamic = ["version"]')
    )
    assert (
        "core/pyproject.toml: the version must stand in one place"
        in manifests(copy, "--check").stderr
    )


def test_constraints_of_a_release(copy: Path) -> None:
    wheels = copy / "dist"
    wheels.mkdir()
    (wheels / "lossylens_toolkit-0.3.1-py3-none-any.whl").touch()
    lines = manifests(copy, "--constraints", str(wheels)).stdout.splitlines()
    assert lines[-1] == "lossylens-toolkit==0.3.1"
    assert any(line.startswith("numpy==") for line in lines)
