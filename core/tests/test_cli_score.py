"""``lossylens score`` on a task that is defined here; see the task plugins for real ones."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
import typer
from lossylens.cli import main
from lossylens.cli import score_command as module
from lossylens.errors import DataError, LossylensError
from lossylens.registry import plugins
from lossylens.task import Primary, Score, TaskSpec
from typer.testing import CliRunner


@dataclass
class Options:
    data: str = "???"
    a: str = ""


PRIMARY = Primary(name="all/f1", low=0, high=1)
SPEC = TaskSpec(name="toy", summary="", factory="a:b", primary=PRIMARY, options=Options)
SCORE = Score(
    metrics={"all": {"f1": 0.5, "list": [1.0, math.nan]}},
    value=0.5,
    samples=4,
    missing=1,
    failed=2,
    unextracted=1,
)


class _Task:
    def score(self, predictions):
        if "9" in predictions:
            raise DataError("unknown index 9")
        return SCORE

    def provenance(self):
        return {"file": "x.tsv"}


class _Registry:
    def find(self, kind, name):
        class Found:
            spec = SPEC

        return Found

    def build_task(self, name, options):
        assert options == {"data": "x.tsv", **({"a": "b"} if "a" in options else {})}
        return _Task()


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(plugins, "load_registry", _Registry)
    app = typer.Typer()
    app.command()(module.score)

    def run(*arguments: str, predictions: str = '{"index": 1, "prediction": "yes"}'):
        file = tmp_path / "predictions.jsonl"
        file.write_text(predictions)
        words = ["toy", "--data", "x.tsv", "--predictions", str(file), *arguments]
        return CliRunner().invoke(app, words)

    return run


def test_json_is_one_object_with_metrics_primary_and_counts(run):
    result = run("--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "task": "toy",
        "metrics": {"all": {"f1": 0.5, "list": [1.0, None]}},
        "primary": {"name": "all/f1", "value": 0.5},
        "samples": 4,
        "missing": 1,
        "failed": 2,
        "unextracted": 1,
        "data": {"file": "x.tsv"},
    }


def test_text_has_a_line_per_metric_and_marks_the_primary(run):
    assert run().stdout.splitlines() == [
        "all/f1      0.5 *",
        "all/list/1  1",
        "all/list/2  -",
        "samples 4, missing 1, failed 2, unextracted 1",
        "* the score of the task, which runs and reports show, in percent: 50.00",
    ]


def test_options_of_the_task_are_passed_on(run):
    assert run("--option", "a=b").exit_code == 0


@pytest.mark.parametrize(
    "predictions",
    ['{"index": 9, "prediction": "yes"}', '{"index": 1, "prediction'],
    ids=["unknown index", "malformed line"],
)
def test_bad_input_is_an_error_of_ours(run, predictions):
    assert isinstance(run(predictions=predictions).exception, LossylensError)


@pytest.fixture
def patches(sample, tmp_path):
    """Predictions for the first sample of a task that reads no file."""
    from lossylens.registry.plugins import load_registry

    first = next(iter(load_registry().build_task("patches", {"images": 2}).samples()))
    file = tmp_path / "predictions.jsonl"
    file.write_text(json.dumps({"index": first.id, "prediction": "x"}))
    return ["score", "patches", "--predictions", str(file), "--option", "images=2"]


def test_a_task_without_a_file_is_scored_without_data(patches, capsys):
    assert main(patches) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith(" *")
    assert printed[-1].startswith("* the score of the task")


def test_data_for_a_task_that_reads_no_file_are_refused(patches, capsys):
    assert main([*patches, "--data", "x.tsv"]) == 2
    assert "--data: task 'patches' reads no file; its options are " in capsys.readouterr().err


def test_a_task_with_a_file_needs_data(plants, capsys, tmp_path):
    plants.plant(
        "filed",
        """
        from dataclasses import dataclass
        from lossylens.hookspecs import hookimpl
        from lossylens.task import Primary, TaskSpec

        @dataclass
        class Options:
            data: str = "???"

        @hookimpl
        def register_tasks(register):
            primary = Primary("m", 0, 1)
            register(
                TaskSpec(name="filed", summary="", factory="a:b", primary=primary, options=Options)
            )
        """,
    )
    (tmp_path / "p.jsonl").write_text("")
    assert main(["score", "filed", "--predictions", str(tmp_path / "p.jsonl")]) == 2
    expected = "lossylens: --data must be given: task 'filed' reads a file\n"
    assert capsys.readouterr().err == expected


def test_dotted_options(run, monkeypatch):
    seen = {}

    def build(self, name, options):
        seen.update(options)
        return _Task()

    monkeypatch.setattr(_Registry, "build_task", build)
    run("--option", "judge.url=http://h/v1", "--option", "judge.model=m")
    assert seen["judge"] == {"url": "http://h/v1", "model": "m"}
