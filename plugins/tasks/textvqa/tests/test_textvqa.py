from __future__ import annotations

from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind, default_prompt
from lossylens_task_textvqa.plugin import TextvqaOptions
from lossylens_task_textvqa.task import TextvqaTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv


class TestGolden(GoldenTests):
    task_class = TextvqaTask
    name = "textvqa"
    folder = Path(__file__).parent / "golden"


@pytest.fixture
def make(tmp_path):
    def make(*answers: str, **columns: str) -> TextvqaTask:
        cells = [{"question": "What does it say?", "answer": each, **columns} for each in answers]
        return TextvqaTask(TextvqaOptions(data=str(write_tsv(tmp_path / "TextVQA.tsv", *cells))))

    return make


def credit(task: TextvqaTask, prediction: str | None) -> float:
    return task.score({"0": prediction}).verdicts["0"]


def test_a_word_or_phrase_is_asked_for(make):
    question = next(make("['stop'] ").samples()).question
    assert question.kind is QuestionKind.SHORT_ANSWER
    asked = "What does it say?\nAnswer the question using a single word or phrase."
    assert default_prompt(question) == asked


@pytest.mark.parametrize(("same", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
def test_the_credit_is_the_mean_over_each_answer_left_out(make, same, expected):
    task = make(repr(["stop"] * same + ["go"] * (10 - same)))
    assert credit(task, "stop") == pytest.approx(expected, abs=1e-15)


def test_one_answer_that_is_no_list_earns_nothing(make):
    assert credit(make("stop"), "stop") == 0


def test_a_period_behind_a_digit_stays(make):
    task = make(repr(["1995"] * 10))
    assert credit(task, "1995.") == 0
    assert credit(task, "1995") == 1


def test_predictions_go_through_the_spreadsheet(make):
    assert credit(make(repr(["nan"] * 10)), "None") == 1
    assert credit(make(repr(["0"] * 10)), "=5") == 1
    assert credit(make(repr(["0"] * 10)), "None") == 0


def test_members_that_are_no_strings_become_strings(make):
    assert credit(make("[10, 10, 10, 10]"), "ten") == 1


def test_splits_come_before_categories(make):
    with_both = make(repr(["a b"] * 4), split="val", category="sign").score({"0": "a b"})
    assert with_both.metrics == {"Overall": 100, "val": 100}
    assert make(repr(["x"] * 4), category="sign").score({"0": "x"}).metrics == {
        "Overall": 100,
        "sign": 100,
    }


def test_a_row_without_split_counts_in_overall_alone(tmp_path):
    rows = [{"question": "?", "answer": repr(["x"] * 4), "split": split} for split in ("val", "")]
    path = write_tsv(tmp_path / "TextVQA.tsv", *rows)
    score = TextvqaTask(TextvqaOptions(data=str(path))).score({"0": "x", "1": "y"})
    assert score.metrics == {"Overall": 50, "val": 100}


def test_missing_and_failed_predictions(make):
    score = make(repr(["x"] * 4), repr(["y"] * 4), repr(["z"] * 4)).score({"0": "x", "1": None})
    assert (score.value, score.missing, score.failed) == (50, 1, 1)


def test_an_empty_list_is_refused(make):
    with pytest.raises(DataError, match=r"row 1 \(index 0\), column 'answer': an empty list"):
        next(make("[]").samples())


def test_rows_of_another_data_set_are_refused_and_recognised(make):
    with pytest.raises(DataError, match="a file of POPE"):
        next(make("Yes", category="random,popular").samples())
