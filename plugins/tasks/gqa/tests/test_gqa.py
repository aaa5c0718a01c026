from __future__ import annotations

from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind, default_prompt
from lossylens_task_gqa.plugin import GqaOptions
from lossylens_task_gqa.task import GqaTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv


class TestGolden(GoldenTests):
    task_class = GqaTask
    name = "gqa"
    folder = Path(__file__).parent / "golden"


@pytest.fixture
def make(tmp_path):
    def make(*rows: tuple[str, str]) -> GqaTask:
        cells = [{"question": "What is it?", "answer": a, "category": c} for a, c in rows]
        return GqaTask(GqaOptions(data=str(write_tsv(tmp_path / "GQA.tsv", *cells))))

    return make


def right(task: GqaTask, prediction: str) -> bool:
    return task.score({"0": prediction}).verdicts["0"] == 1


def test_a_word_or_phrase_is_asked_for(make):
    question = next(make(("red", "query")).samples()).question
    assert question.kind is QuestionKind.SHORT_ANSWER
    prompt = "What is it?\nAnswer the question using a single word or phrase."
    assert default_prompt(question) == prompt


@pytest.mark.parametrize("text", ["light blue", "Light Blue", " light blue\n", "\u3000light blue"])
def test_case_and_whitespace_around_the_answer_do_not_matter(make, text):
    assert right(make(("light blue", "query")), text)


@pytest.mark.parametrize(
    "text",
    ["light blue.", "a light blue", "light  blue", "lightblue", "'light blue'", "\u200blight blue"],
)
def test_nothing_else_is_normalised(make, text):
    assert not right(make(("light blue", "query")), text)


def test_an_answer_that_is_a_missing_value_word_is_nan(make):
    task = make(("None", "query"))
    assert right(task, "")
    assert right(task, "nan")
    assert not right(task, "none")


def test_a_prediction_that_begins_with_an_equals_sign_is_0(make):
    assert right(make(("0", "query")), "=red")


def test_overall_is_the_mean_over_questions_not_over_categories(make):
    task = make(("a", "query"), ("b", "query"), ("c", "choose"))
    metrics = task.score({"0": "a", "1": "b", "2": "x"}).metrics
    assert metrics == {"Overall": pytest.approx(200 / 3), "choose": 0, "query": 100}
    assert list(metrics) == ["Overall", "choose", "query"]


def test_missing_predictions_are_left_out_and_counted(make):
    score = make(("a", "query"), ("c", "choose")).score({"0": "a"})
    assert score.metrics == {"Overall": 100, "query": 100}
    assert score.missing == 1


def test_rows_of_another_data_set_are_refused_and_recognised(make):
    with pytest.raises(DataError, match=r"GQA has no 'random,popular'.*a file of POPE"):
        make(("Yes", "random,popular")).score({"0": "yes"})
