"""What ``lossylens new`` makes is installed by pip and passes the conformance suite at once."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOSSYLENS = Path(sys.executable).with_name("lossylens")
NAME = "brand-new"

pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOSSYLENS_")}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )


def succeed(*command: str | Path, cwd: Path) -> str:
    done = call(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    said = succeed(LOSSYLENS, "new", "codec", NAME, cwd=folder)
    assert "pip install -e '.[test]' && pytest" in said
    return folder / "lossylens-codec-brand-new"


@pytest.fixture(scope="module")
def python(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the project, and the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(succeed(python, "-c", where, cwd=folder).strip())
    here = sysconfig.get_path("purelib")
    (packages / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    succeed(python, "-m", "pip", *install, project, cwd=folder)
    return python


def test_its_own_tests_pass(python: Path, project: Path) -> None:
    said = succeed(python, "-m", "pytest", "-rs", cwd=project)
    assert "failed" not in said
    assert "the codec has no latents" in said


def test_the_suite_finds_it_where_it_is_installed(python: Path, tmp_path: Path) -> None:
    checks = ("-k", "levels or truncated", "-W", "error")
    command = ("--pyargs", "lossylens.testing", "--codec", NAME, *checks)
    assert "3 passed" in succeed(python, "-m", "pytest", *command, cwd=tmp_path)


def test_it_is_listed(python: Path, tmp_path: Path) -> None:
    listed = succeed(python, "-m", "lossylens", "plugins", cwd=tmp_path)
    assert "lossylens-codec-brand-new 0.1.0" in listed


def test_its_name_is_taken_once_it_is_installed(python: Path, tmp_path: Path) -> None:
    done = call(python, "-m", "lossylens", "new", "codec", NAME, cwd=tmp_path)
    assert done.returncode == 2
    expected = "there is a codec 'brand-new' already, in lossylens-codec-brand-new"
    assert done.stderr == f"lossylens: {expected}; choose another name\n"


def test_it_is_as_tidy_as_the_repository(project: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    settings = ("--config", ROOT / "pyproject.toml", "--no-cache")
    succeed(ruff, "check", *settings, project, cwd=project)
    succeed(ruff, "format", "--check", *settings, project, cwd=project)
