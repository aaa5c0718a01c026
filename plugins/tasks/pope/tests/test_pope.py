from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens.cli.commands import COMMANDS
from lossylens.errors import DataError
from lossylens.toolkit.tsv_task.testing import GoldenCase, differences, golden_case
from lossylens.vlm import QuestionKind, default_prompt
from lossylens_task_pope.plugin import PopeOptions
from lossylens_task_pope.task import PopeTask

GOLDEN = Path(__file__).parent / "golden"
HEADER = "index\timage\tquestion\tanswer\tcategory\n"
PICTURE = "iVBORw0KGgo" * 10


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def case(tmp_path) -> GoldenCase:
    return golden_case(GOLDEN, "pope", tmp_path)


@pytest.fixture
def task(case) -> PopeTask:
    return PopeTask(PopeOptions(data=str(case.data)))


@pytest.fixture
def make(tmp_path):
    def make(*rows: tuple[str, str], header: str = HEADER) -> PopeTask:
        path = tmp_path / "POPE.tsv"
        lines = [
            f"{i}\t{PICTURE}\tIs there a cat?\t{answer}\t{category}\n"
            for i, (answer, category) in enumerate(rows)
        ]
        path.write_text(header + "".join(lines))
        return PopeTask(PopeOptions(data=str(path)))

    return make


def test_metrics_equal_the_reference_evaluators(task, case):
    score = task.score(case.predictions)
    assert differences(score.metrics, case.expected["metrics"]) == []
    assert score.value == pytest.approx(case.expected["metrics"]["Overall"]["Overall"], abs=1e-9)
    assert (score.samples, score.missing, score.failed) == (case.expected["n_rows"], 0, 0)


def test_every_row_is_extracted_and_judged_as_by_the_reference_evaluator(task, case):
    score = task.score(case.predictions)
    for index, expected in case.expected["rows"].items():
        where = f"{index} ({case.groups[index]})"
        assert score.extracted[index] == expected["extracted"], where
        assert score.verdicts[index] == expected["hit"], where
    unknown = sum(row["extracted"] == "Unknown" for row in case.expected["rows"].values())
    assert score.unextracted == unknown


def test_prompts_equal_the_reference_evaluators(task, case):
    samples = {sample.id: sample for sample in task.samples()}
    for index, prompts in case.expected["prompts"].items():
        question = samples[index].question
        assert question.kind is QuestionKind.YES_NO
        assert question.task == "pope"
        assert "<image>" + default_prompt(question) == prompts["generic"]


def test_samples_carry_answer_and_splits(task):
    sample = next(task.samples())
    assert sample.fields == {"answer": "Yes", "category": "random"}
    assert sample.image.read().startswith(b"\x89PNG")


def test_unknown_counts_as_no_in_f1_but_as_wrong_in_accuracy(make):
    task = make(("No", "random"), ("Yes", "random"))
    metrics = task.score({"0": "perhaps", "1": "yes"}).metrics["random"]
    assert metrics == {"Overall": 100, "precision": 100, "recall": 100, "acc": 50}


def test_overall_pools_the_splits_and_a_question_counts_once_for_each(make):
    task = make(("Yes", "random,popular"), ("Yes", "popular"))
    metrics = task.score({"0": "yes", "1": "no"}).metrics
    assert metrics["Overall"]["acc"] == pytest.approx(100 * 2 / 3)
    assert metrics["random"]["acc"] == 100
    assert metrics["popular"]["acc"] == 50
    assert "adversarial" not in metrics


def test_precision_recall_and_f1_are_0_where_they_are_undefined(make):
    task = make(("No", "random"))
    metrics = task.score({"0": "no"}).metrics["Overall"]
    assert metrics == {"Overall": 0, "precision": 0, "recall": 0, "acc": 100}


def test_missing_predictions_are_left_out_and_counted(make):
    task = make(("Yes", "random"), ("No", "popular"))
    score = task.score({"0": "yes"})
    assert (score.samples, score.missing) == (2, 1)
    assert score.metrics["Overall"]["acc"] == 100
    assert "popular" not in score.metrics


def test_failed_predictions_count_as_unknown_and_are_counted(make):
    task = make(("Yes", "random"), ("No", "random"))
    score = task.score({"0": None, "1": "no"})
    assert (score.failed, score.unextracted) == (1, 0)
    assert score.metrics["Overall"]["acc"] == 50
    assert score.verdicts == {"0": 0, "1": 1}


def test_mme_rows_are_refused_and_recognised(tmp_path):
    path = tmp_path / "MME.tsv"
    path.write_text(
        "index\timage\tquestion\tanswer\tcategory\timage_path\n"
        f"0\t{PICTURE}\tIs there a cat?\tYes\texistence\texistence/0.png\n"
    )
    task = PopeTask(PopeOptions(data=str(path)))
    with pytest.raises(DataError, match=r"row 1 \(index 0\).*'existence'.*a file of MME"):
        task.score({"0": "yes"})
    with pytest.raises(DataError, match="a file of MME"):
        next(task.samples())


def test_an_answer_that_is_neither_yes_nor_no_is_refused(make):
    with pytest.raises(DataError, match=r"column .answer.*.yes.*Yes, No"):
        make(("yes", "random")).score({"0": "yes"})


def test_the_golden_predictions_are_json(case):
    assert len(json.loads(case.predictions_file.read_text())) == len(case.predictions)


@pytest.fixture
def lossylens(monkeypatch, capsys):
    """Run the command line; return its exit code, output and error output."""
    monkeypatch.setitem(COMMANDS, "score", "lossylens.cli.score:score")

    def lossylens(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return lossylens


def test_the_command_prints_the_metrics_of_the_reference_evaluator(lossylens, case):
    code, out, _ = lossylens(
        "score", "POPE", "--data", case.data, "--predictions", case.predictions_file, "--json"
    )
    assert code == 0
    report = json.loads(out)
    assert differences(report["metrics"], case.expected["metrics"]) == []
    assert report["primary"]["name"] == "Overall/Overall"
    assert report["primary"]["value"] == report["metrics"]["Overall"]["Overall"]
    assert (report["samples"], report["missing"], report["failed"]) == (170, 0, 0)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"index": 999, "prediction": "yes"}'], "for rows that .* does not have: index 999"),
        (['{"index": 1, "prediction": "yes"}'] * 2, "two predictions for index 1"),
        (['{"index": 1, "prediction": "yes"}', "{"], r"predictions.jsonl:2: not JSON"),
    ],
)
def test_the_command_says_what_is_wrong_with_predictions(lossylens, case, tmp_path, lines, message):
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(lines))
    code, out, err = lossylens("score", "pope", "--data", case.data, "--predictions", path)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert re.search(message, err)


def test_the_command_says_where_data_that_are_not_there_can_be_had(lossylens, tmp_path):
    code, _, err = lossylens("score", "pope", "--data", tmp_path / "no", "--predictions", "x")
    assert code == 2
    assert "download https://opencompass.openxlab.space/utils/VLMEval/POPE.tsv" in err
