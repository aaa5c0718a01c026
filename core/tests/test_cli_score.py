"""``lossylens score`` on a task that is defined here; see the task plugins for real ones."""

from __future__ import annotations

import json
import math

import pytest
import typer
from lossylens import plugins
from lossylens.cli import score as module
from lossylens.errors import DataError, LossylensError
from lossylens.task import Primary, Score, TaskSpec
from typer.testing import CliRunner

SPEC = TaskSpec(
    name="toy", summary="", factory="a:b", primary=Primary(name="all/f1", low=0, high=1)
)
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
