from __future__ import annotations

import re
from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind
from lossylens_task_pope.plugin import PopeOptions
from lossylens_task_pope.task import PopeTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, golden_case, write_tsv

GOLDEN = Path(__file__).parent / "golden"


class TestGolden(GoldenTests):
    task_class = PopeTask
    name = "pope"
    folder = GOLDEN


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make(tmp_path):
    def make(*rows: tuple[str, str]) -> PopeTask:
        cells = [{"question": "Is there a cat?", "answer": a, "category": c} for a, c in rows]
        return PopeTask(PopeOptions(data=str(write_tsv(tmp_path / "POPE.tsv", *cells))))

    return make


def test_questions_are_verbatim_and_samples_carry_answer_and_splits(make):
    sample = next(make(("Yes", "random,popular")).samples())
    assert sample.question.kind is QuestionKind.YES_NO
    assert sample.question.text == "Is there a cat?"
    assert sample.fields == {"answer": "Yes", "category": "random,popular"}


def test_unknown_counts_as_no_in_f1_but_as_wrong_in_accuracy(make):
    task = make(("No", "random"), ("Yes", "random"))
    score = task.score({"0": "perhaps", "1": "yes"})
    assert score.metrics["random"] == {"Overall": 100, "precision": 100, "recall": 100, "acc": 50}
    assert score.unextracted == 1


def test_overall_pools_the_splits_and_a_question_counts_once_for_each(make):
    task = make(("Yes", "random,popular"), ("Yes", "popular"))
    metrics = task.score({"0": "yes", "1": "no"}).metrics
    assert metrics["Overall"]["acc"] == pytest.approx(100 * 2 / 3)
    assert metrics["random"]["acc"] == 100
    assert metrics["popular"]["acc"] == 50
    assert "adversarial" not in metrics


def test_precision_recall_and_f1_are_0_where_they_are_undefined(make):
    metrics = make(("No", "random")).score({"0": "no"}).metrics["Overall"]
    assert metrics == {"Overall": 0, "precision": 0, "recall": 0, "acc": 100}


@pytest.mark.parametrize("text", ["", "None", "NA", "=yes", "{=yes}"])
def test_missing_value_words_and_formulas_are_unknown(make, text):
    score = make(("Yes", "random")).score({"0": text})
    assert score.extracted == {"0": "Unknown"}


def test_missing_predictions_are_left_out_and_counted(make):
    score = make(("Yes", "random"), ("No", "popular")).score({"0": "yes"})
    assert (score.samples, score.missing) == (2, 1)
    assert score.metrics["Overall"]["acc"] == 100
    assert "popular" not in score.metrics


def test_failed_predictions_count_as_unknown_and_are_counted(make):
    score = make(("Yes", "random"), ("No", "random")).score({"0": None, "1": "no"})
    assert (score.failed, score.unextracted) == (1, 0)
    assert score.metrics["Overall"]["acc"] == 50
    assert score.verdicts == {"0": 0, "1": 1}


def test_mme_rows_are_refused_and_recognised(tmp_path):
    cells = {"question": "Is there a cat?", "answer": "Yes", "category": "existence"}
    path = write_tsv(tmp_path / "MME.tsv", {**cells, "image_path": "existence/0.png"})
    task = PopeTask(PopeOptions(data=str(path)))
    with pytest.raises(DataError, match=r"row 1 \(index 0\).*'existence'.*a file of MME"):
        task.score({"0": "yes"})
    with pytest.raises(DataError, match="a file of MME"):
        next(task.samples())


def test_an_answer_that_is_neither_yes_nor_no_is_refused(make):
    with pytest.raises(DataError, match=r"column 'answer'.*'yes'.*Yes, No"):
        make(("yes", "random")).score({"0": "yes"})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"index": 999, "prediction": "yes"}'], "for rows that .* does not have: index 999"),
        (['{"index": 1, "prediction": "yes"}'] * 2, "two predictions for index 1"),
        (['{"index": 1, "prediction": "yes"}', "{"], r"predictions.jsonl:2: not JSON"),
    ],
)
def test_the_command_says_what_is_wrong_with_predictions(tmp_path, capsys, lines, message):
    case = golden_case(GOLDEN, "pope", tmp_path)
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(lines))
    assert main(["score", "pope", "--data", str(case.data), "--predictions", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert re.search(message, err)


def test_the_command_says_where_data_that_are_not_there_can_be_had(tmp_path, capsys):
    data = str(tmp_path / "POPE.tsv")
    assert main(["score", "pope", "--data", data, "--predictions", "x"]) == 2
    url = "https://opencompass.openxlab.space/utils/VLMEval/POPE.tsv"
    assert f"download {url}" in capsys.readouterr().err


def test_the_command_takes_a_judge_that_must_be_complete(tmp_path, capsys):
    case = golden_case(GOLDEN, "pope", tmp_path)
    words = ["score", "pope", "--data", str(case.data), "--predictions", "x"]
    assert main([*words, "--option", "judge={model: wise}"]) == 2
    assert "url (http://...) and model must both be given" in capsys.readouterr().err
