from __future__ import annotations

import math
from pathlib import Path

import pytest
from lossylens_task_chartqa.plugin import ChartqaOptions
from lossylens_task_chartqa.task import SWAPPED, ChartqaTask, number, relaxed
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv


class TestGolden(GoldenTests):
    task_class = ChartqaTask
    name = "chartqa"
    folder = Path(__file__).parent / "golden"
    beside = frozenset({SWAPPED})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("57", 57),
        (" 57\n", 57),
        ("57%", 0.57),
        ("57%%", 0.57),
        ("1e3", 1000),
        ("1_995", 1995),
        ("+5", 5),
        ("5.", 5),
        ("\uff11\uff12", 12),
        ("inf", math.inf),
        ("57 %", 0.57),
        ("57% ", None),
        ("%", None),
        ("1,995", None),
        ("$5", None),
        ("\u22125", None),
        ("", None),
    ],
)
def test_numbers_are_what_python_takes(text, expected):
    assert number(text) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        ("104", "100", True),
        ("105", "100", True),
        ("95", "100", True),
        ("105.1", "100", False),
        ("94.9", "100", False),
        ("-100", "100", False),
        ("1996", "1995", True),
        ("57", "57%", False),
        ("0.57", "57%", True),
        ("57%", "0.57", True),
        ("0.0", "0", False),
        ("0", "0", True),
        ("0", "5", False),
        ("Germany", "germany", True),
        ("Yes.", "Yes", False),
        ("1995.", "1995", True),
        ("nan", "5", False),
        ("inf", "inf", False),
        ("nan", "nan", False),
        ("5", "nan", False),
    ],
)
def test_relaxed_accuracy(prediction, answer, right):
    assert relaxed(prediction, answer) is right


@pytest.fixture
def make(tmp_path):
    def make(*answers: str) -> ChartqaTask:
        cells = [{"question": "?", "answer": a, "split": "test_human"} for a in answers]
        return ChartqaTask(ChartqaOptions(data=str(write_tsv(tmp_path / "ChartQA.tsv", *cells))))

    return make


def test_a_list_is_several_answers_and_not_itself_one(make):
    task = make("[10, 14]", "[10, 14]", "['a', 'b']")
    score = task.score({"0": "14", "1": "[10, 14]", "2": "B"})
    assert score.verdicts == {"0": 1, "1": 0, "2": 1}


def test_the_prediction_is_stripped_and_the_answer_is_not(make):
    assert make("yes ").score({"0": " yes "}).value == 0
    assert make("yes").score({"0": " yes "}).value == 100


def test_the_former_rule_stands_beside(make):
    # 105.2 is more than 5 percent from 100, but 100 is less than 5 percent from 105.2; and a
    # prediction of 0 was compared as text.
    task = make("100", "0", "5", "x")
    score = task.score({"0": "105.2", "1": "0.0", "2": "0", "3": None})
    assert score.metrics == {
        "Overall": 0,
        "test_human": 0,
        SWAPPED: {"Overall": 25, "test_human": 25},
    }
    assert score.value == 0
