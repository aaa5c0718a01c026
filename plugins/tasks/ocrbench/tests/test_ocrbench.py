from __future__ import annotations

from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind, default_prompt
from lossylens_task_ocrbench.plugin import OcrbenchOptions
from lossylens_task_ocrbench.task import FORMULAS, RECOGNITION, OcrbenchTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv

WORDS = "Scene Text-centric VQA"


class TestGolden(GoldenTests):
    task_class = OcrbenchTask
    name = "ocrbench"
    folder = Path(__file__).parent / "golden"


@pytest.fixture
def make(tmp_path):
    def make(*rows: tuple[str, str]) -> OcrbenchTask:
        cells = [{"question": "What is written?", "answer": a, "category": c} for a, c in rows]
        return OcrbenchTask(OcrbenchOptions(data=str(write_tsv(tmp_path / "OCRBench.tsv", *cells))))

    return make


def right(task: OcrbenchTask, prediction: str) -> bool:
    return task.score({"0": prediction}).verdicts["0"] == 1


def test_questions_are_verbatim(make):
    question = next(make(("['a']", WORDS)).samples()).question
    assert question.kind is QuestionKind.OPEN
    assert default_prompt(question) == "What is written?"


@pytest.mark.parametrize(
    ("answer", "prediction", "expected"),
    [
        ("['Stop sign']", "It says STOP SIGN.", True),
        ("['Stop sign']", "stop\nsign", True),
        ("[' Stop sign\\n']", "stop sign", True),
        ("['Stop sign']", "stop  sign", False),
        ("['Stop sign']", "stop\tsign", False),
        ("['Stop sign']", "stopsign", False),
        ("['café']", "cafe", False),
        ("['no', 'stop']", "stop", True),
        ("['']", "anything", True),
        ("['l']", "hello", True),
        ('["caf\\u00e9"]', "CAFÉ", True),
        ("[5]", "15", True),
    ],
)
def test_an_answer_is_right_if_it_is_contained(make, answer, prediction, expected):
    assert right(make((answer, WORDS)), prediction) is expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("x ^ 2 + Y", True),
        ("so: x^2+Y = 3", True),
        ("x^2\n+Y", True),
        ("X^2+y", False),
        ("x^2\t+Y", False),
    ],
)
def test_formulas_keep_case_and_lose_blanks(make, prediction, expected):
    assert right(make(("['x^2 + Y']", FORMULAS)), prediction) is expected


@pytest.mark.parametrize("prediction", ["", "None", "nan"])
def test_an_empty_prediction_becomes_nan_which_contains_short_answers(make, prediction):
    assert right(make(("['an']", WORDS)), prediction)
    assert not right(make(("['the']", WORDS)), prediction)


def test_a_prediction_that_begins_with_an_equals_sign_is_0(make):
    assert right(make(("['0']", FORMULAS)), "= x + y")
    assert not right(make(("['x+y']", FORMULAS)), "= x + y")


def test_a_carriage_return_is_escaped(make):
    assert not right(make(("['stop sign']", WORDS)), "stop\r\nsign")
    assert right(make(("['stop_x000D_ sign']", WORDS)), "stop\r\nsign")


def test_metrics_are_counts_and_their_sum(make):
    task = make(("['a']", RECOGNITION[0]), ("['b']", RECOGNITION[5]), ("['c']", FORMULAS))
    score = task.score({"0": "a", "1": "b", "2": "c"})
    assert score.metrics == {
        "Text Recognition": 2,
        "Scene Text-centric VQA": 0,
        "Doc-oriented VQA": 0,
        "Key Information Extraction": 0,
        FORMULAS: 1,
        "Final Score": 3,
        "Final Score Norm": 0.3,
    }
    assert score.value == 3


def test_missing_predictions_are_counted(make):
    score = make(("['a']", WORDS), ("['b']", WORDS)).score({"0": "a"})
    assert (score.value, score.missing) == (1, 1)


@pytest.mark.parametrize("answer", ["a", "('a',)", "['a'", "__import__('os')", "[x]", "None"])
def test_answers_that_are_no_list_are_refused(make, answer):
    with pytest.raises(DataError, match=r"row 1 \(index 0\), column 'answer'"):
        make((answer, WORDS)).score({"0": "a"})


def test_rows_of_another_data_set_are_refused_and_recognised(make):
    with pytest.raises(DataError, match=r"OCRBench has no 'query'.*a file of GQA"):
        make(("red", "query")).score({"0": "red"})
