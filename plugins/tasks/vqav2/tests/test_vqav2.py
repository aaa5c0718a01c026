from __future__ import annotations

from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens_task_vqav2.plugin import Vqav2Options
from lossylens_task_vqav2.task import Vqav2Task
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv


class TestGolden(GoldenTests):
    task_class = Vqav2Task
    name = "vqav2"
    folder = Path(__file__).parent / "golden"


@pytest.fixture
def make(tmp_path):
    def make(*answers: str, category: str = "other") -> Vqav2Task:
        cells = [{"question": "What?", "answer": a, "category": category} for a in answers]
        return Vqav2Task(Vqav2Options(data=str(write_tsv(tmp_path / "VQAv2.tsv", *cells))))

    return make


def credit(task: Vqav2Task, prediction: str) -> float:
    return task.score({"0": prediction}).verdicts["0"]


@pytest.mark.parametrize(
    ("answer", "prediction"),
    [
        ("2", "2."),
        ("2", "two"),
        ("black", "Black."),
        ("don't", "Dont"),
        ("10", "a  Ten"),
        (".5", ".5."),
        ("ab", "a.b"),
        # Two commas between digits delete all punctuation.
        ("12x", "1,,2/x"),
    ],
)
def test_answers_are_normalised_also_where_all_are_the_same(make, answer, prediction):
    assert credit(make(repr([answer] * 10)), prediction) == 1


def test_no_text_goes_through_a_spreadsheet(make):
    assert credit(make(repr(["0"] * 10)), "None") == 1
    assert credit(make(repr(["nan"] * 10)), "") == 0
    assert credit(make(repr(["x"] * 10)), "=x") == 1


def test_answers_that_are_no_list_are_refused(make):
    with pytest.raises(DataError, match="column 'answer': not a list of strings"):
        make("red").score({"0": "red"})


def test_answer_types_stand_beside_the_mean(make):
    score = make(repr(["x"] * 10), repr(["y"] * 10), category="yes/no").score({"0": "x", "1": "x"})
    assert score.metrics == {"Overall": 50, "yes/no": 50}
    assert score.value == 50


def test_rows_of_another_data_set_are_refused_and_recognised(make):
    with pytest.raises(DataError, match="a file of GQA"):
        next(make("['x']", category="query").samples())
