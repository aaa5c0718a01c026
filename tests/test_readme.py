"""What README.md prints works as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"

_BLOCK = re.compile(
    r"^```(?:toml|python|yaml)\n# ([^\s:]+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def printed() -> dict[str, str]:
    """Return the files that README prints, by the name in their first line."""
    return dict(_BLOCK.findall(README.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the printed codec as an installed distribution."""
    site = tmp_path_factory.mktemp("site")
    files = printed()
    project = tomllib.loads(files["pyproject.toml"])["project"]
    for name, content in files.items():
        if name.endswith(".py"):
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_text(content)
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {each}\n" for each in project["dependencies"])
    about = f"Name: {project['name']}\nVersion: {project['version']}\n{requires}"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{about}")
    (group,) = project["entry-points"].items()
    points = "".join(f"{name} = {target}\n" for name, target in group[1].items())
    (info / "entry_points.txt").write_text(f"[{group[0]}]\n{points}")
    return site


def call(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOSSYLENS_")}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=site,
        env={**environment, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )


def test_the_files_of_a_codec_are_printed() -> None:
    package = "lossylens_codec_mycodec"
    assert {"pyproject.toml", f"{package}/plugin.py", f"{package}/codec.py"} <= set(printed())


def test_the_printed_codec_is_found(site: Path) -> None:
    listed = call(site, "lossylens", "plugins", "show", "mycodec")
    assert listed.returncode == 0, listed.stderr
    assert "r200, r50" in listed.stdout


@pytest.mark.slow
def test_the_printed_codec_passes_the_conformance_suite(site: Path) -> None:
    suite = ("--pyargs", "lossylens.testing", "--codec", "mycodec", "-W", "error")
    done = call(site, "pytest", "-p", "no:cacheprovider", *suite)
    assert done.returncode == 0, done.stdout
    summary = done.stdout.splitlines()[-1]
    assert "failed" not in summary
    assert re.search(r"\b42 passed, 1 skipped\b", summary), "a codec without latents"
