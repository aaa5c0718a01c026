"""What ``lossylens new`` makes is installed by pip and passes its tests and its lint at once."""

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

#: By kind, a few checks of its suite, and how many these are.
KINDS = {
    "codec": ("levels or truncated", 3),
    "vlm": ("in_order or cannot", 2),
    "task": ("", 0),
    "adaptor": ("provenance or another_vlm", 2),
    "result": ("", 0),
}

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
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    for kind in KINDS:
        said = succeed(LOSSYLENS, "new", kind, NAME, cwd=folder)
        assert "pip install -e '.[test]' && pytest" in said
    return folder


@pytest.fixture(scope="module")
def python(projects: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the projects, and the packages of this one behind it."""
    folder = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(succeed(python, "-c", where, cwd=folder).strip())
    here = sysconfig.get_path("purelib")
    (packages / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    succeed(python, "-m", "pip", *install, *sorted(projects.iterdir()), cwd=folder)
    return python


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass(python: Path, projects: Path, kind: str) -> None:
    said = succeed(python, "-m", "pytest", "-rs", cwd=projects / f"lossylens-{kind}-{NAME}")
    assert "failed" not in said
    assert "passed" in said


@pytest.mark.parametrize("kind", [kind for kind, (some, _) in KINDS.items() if some])
def test_the_suite_finds_it_where_it_is_installed(python: Path, tmp_path: Path, kind: str) -> None:
    some, count = KINDS[kind]
    command = ("--pyargs", "lossylens.testing", f"--{kind}", NAME, "-k", some, "-W", "error")
    assert f"{count} passed" in succeed(python, "-m", "pytest", *command, cwd=tmp_path)


def test_they_are_listed(python: Path, tmp_path: Path) -> None:
    listed = succeed(python, "-m", "lossylens", "plugins", cwd=tmp_path)
    for kind in KINDS:
        assert f"lossylens-{kind}-brand-new 0.1.0" in listed


@pytest.mark.parametrize("kind", KINDS)
def test_its_name_is_taken_once_it_is_installed(python: Path, tmp_path: Path, kind: str) -> None:
    done = call(python, "-m", "lossylens", "new", kind, NAME, cwd=tmp_path)
    assert done.returncode == 2
    expected = f"there is a {kind} 'brand-new' already, in lossylens-{kind}-brand-new"
    assert done.stderr == f"lossylens: {expected}; choose another name\n"


@pytest.mark.parametrize("kind", KINDS)
def test_it_passes_its_own_lint_and_the_repository_s(projects: Path, kind: str) -> None:
    project = projects / f"lossylens-{kind}-{NAME}"
    ruff = Path(sys.executable).with_name("ruff")
    for settings in ((), ("--config", ROOT / "pyproject.toml")):
        succeed(ruff, "check", "--no-cache", *settings, project, cwd=project)
        succeed(ruff, "format", "--no-cache", "--check", *settings, project, cwd=project)
    # What imports PyTorch takes a minute to check.
    if kind != "adaptor":
        cache = ("--cache-dir", projects.with_name("mypy"))
        succeed(sys.executable, "-m", "mypy", *cache, cwd=project)
