"""The task of the toolkit's README, built, installed and used as a distribution."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import lossylens_toolkit.tsv_task
import pytest

pytestmark = pytest.mark.slow

README = Path(lossylens_toolkit.tsv_task.__file__).with_name("README.md")


def code_of(file: str) -> str:
    """Return the code that the README shows for *file*."""
    found = re.search(rf"`{re.escape(file)}`[^`]*\n```\w+\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, file
    return found[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling")
    project = tmp_path_factory.mktemp("project")
    package = project / "example_task_colours"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for file in (
        "pyproject.toml",
        "example_task_colours/plugin.py",
        "example_task_colours/task.py",
    ):
        (project / file).write_text(code_of(file))
    target = tmp_path_factory.mktemp("target")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *offline]
    subprocess.run([*pip, "--target", str(target), str(project)], check=True, capture_output=True)
    return target


def run(installed: Path, cache: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "LOSSYLENS_CACHE": str(cache)}
    command = [sys.executable, "-m", "lossylens", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_task_is_found_and_scores(installed, tmp_path, write, pictures):
    data = write(
        f"index\timage\tquestion\tanswer\n1\t{pictures[0]}\tWhich?\tred\n2\t1\tAnd?\tblue\n"
    )
    predictions = write('{"index": 1, "prediction": "It is red."}\n', "predictions.jsonl")
    words = ["score", "Colours", "--data", data, "--predictions", predictions, "--json"]
    done = run(installed, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["metrics"] == {"accuracy": 1}
    assert report["primary"] == {"name": "accuracy", "value": 1}
    assert (report["samples"], report["missing"]) == (2, 1)


def test_its_errors_are_those_of_the_toolkit(installed, tmp_path, write, pictures):
    data = write(f"index\timage\tquestion\tanswer\n1\t{pictures[0]}\tWhich?\tpink\n")
    predictions = write('{"index": 1, "prediction": "pink"}\n', "predictions.jsonl")
    done = run(
        installed, tmp_path, "score", "colours", "--data", data, "--predictions", predictions
    )
    assert done.returncode == 2
    assert "row 1 (index 1), column 'answer': Colours has no 'pink'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
