from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens_task_docvqa.anls import anls, levenshtein
from lossylens_task_docvqa.plugin import DocvqaOptions
from lossylens_task_docvqa.task import DocvqaTask, InfovqaTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv


class TestGolden(GoldenTests):
    task_class = DocvqaTask
    name = "docvqa"
    folder = Path(__file__).parent / "golden"


def table_distance(one: str, other: str) -> int:
    """The textbook's table, row by row."""
    row = list(range(len(other) + 1))
    for above, character in enumerate(one):
        diagonal, row[0] = row[0], above + 1
        for column, another in enumerate(other):
            least = min(row[column], row[column + 1], diagonal - (character == another))
            diagonal, row[column + 1] = row[column + 1], least + 1
    return row[-1]


@given(st.text("abc", max_size=20), st.text("abc", max_size=20))
def test_the_distance_is_that_of_the_table(one, other):
    assert levenshtein(one, other) == table_distance(one, other)


@given(st.text("ab \u00df", max_size=9), st.text("aB \u00df", max_size=9))
def test_the_credit_is_that_of_the_definition(prediction, answer):
    forms = [" ".join(text.strip().lower().split()) for text in (prediction, answer)]
    length = max(len(prediction.upper()), len(answer.upper()))
    similarity = 1 - (table_distance(*forms) / length if length else 0)
    assert anls(prediction, [answer]) == (similarity if similarity >= 0.5 else 0)


@pytest.mark.parametrize(
    ("prediction", "answer", "credit"),
    [
        ("12 March", "12 March", 1),
        (" 12\u00a0 MARCH\n", "12 march", 1),
        ("12 March.", "12 March", 8 / 9),
        # Exactly half counts, a little more does not.
        ("ab", "ax", 0.5),
        ("abc", "axy", 0),
        # Blanks around raise the credit of what is not right.
        ("ax   ", "ab", 0.8),
        # In upper case, a sharp s is two letters.
        ("x\u00df", "\u00df", 1 - 1 / 3),
        ("", "", 1),
        ("   ", "ab", 1 - 2 / 3),
    ],
)
def test_credits(prediction, answer, credit):
    assert anls(prediction, [answer]) == pytest.approx(credit if credit >= 0.5 else 0, abs=1e-15)


def test_the_nearest_answer_counts():
    assert anls("14 May", ["12 March", "14 may"]) == 1


@pytest.fixture(params=[DocvqaTask, InfovqaTask])
def make(request, tmp_path):
    def make(*answers: str) -> DocvqaTask:
        cells = [{"question": "When?", "answer": a, "split": "val"} for a in answers]
        return request.param(DocvqaOptions(data=str(write_tsv(tmp_path / "x.tsv", *cells))))

    return make


def test_both_tasks_score_alike_and_have_names_of_their_own(make):
    task = make("['ab', 'x']", "['cd']", "plain")
    score = task.score({"0": "ab", "1": "cx", "2": "PLAIN"})
    assert score.metrics == {"Overall": pytest.approx(250 / 3), "val": pytest.approx(250 / 3)}
    assert score.extracted == {"0": "ab", "1": "cx", "2": "plain"}
    assert next(task.samples()).question.task == task.spec.name


def test_missing_value_words_are_nan_in_predictions_and_answers(make):
    # Four letters, two of them other ones.
    score = make("None", "['nan']", "['None']").score({"0": "", "1": "NA", "2": "None"})
    assert score.verdicts == {"0": 1, "1": 1, "2": 0.5}
