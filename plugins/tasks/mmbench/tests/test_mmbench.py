from __future__ import annotations

import math
from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind, default_prompt
from lossylens_task_mmbench.plugin import MmbenchOptions
from lossylens_task_mmbench.task import MmbenchTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv

COLUMNS = [
    "index",
    "image",
    "question",
    "hint",
    *"ABCD",
    "answer",
    "category",
    "l2-category",
    "split",
]
M = 1_000_000


class TestGolden(GoldenTests):
    task_class = MmbenchTask
    name = "mmbench"
    folder = Path(__file__).parent / "golden"


@pytest.fixture
def make(tmp_path):
    """Write rows; each is the index and what differs from a usual row."""

    def make(*rows: tuple[object, dict[str, str]], columns: list[str] = COLUMNS) -> MmbenchTask:
        usual = {"question": "Which?", "answer": "A", "A": "cat", "B": "dog"}
        usual |= {"category": "ocr", "l2-category": "coarse_perception", "split": "dev"}
        full = [{"index": index, **usual, **cells} for index, cells in rows]
        path = write_tsv(tmp_path / "MMBench.tsv", *full, columns=columns)
        return MmbenchTask(MmbenchOptions(data=str(path)))

    return make


def test_a_question_has_its_options_and_hint(make):
    cells = {"hint": "Look.", "C": "a fox", "D": "None"}
    question = next(make((1, cells)).samples()).question
    assert question.kind is QuestionKind.MULTIPLE_CHOICE
    assert question.options == {"A": "cat", "B": "dog", "C": "a fox"}
    assert default_prompt(question) == (
        "Hint: Look.\nQuestion: Which?\nOptions:\nA. cat\nB. dog\nC. a fox\n"
        "Please select the correct answer from the options above. \n"
    )


def test_a_question_is_right_only_if_all_its_copies_are(make):
    task = make((1, {}), (1 + M, {"answer": "B"}), (2, {}), (2 + M, {"answer": "B"}))
    score = task.score({"1": "A", str(1 + M): "B", "2": "A", str(2 + M): "A"})
    assert score.metrics["dev"]["Overall"] == score.value == 0.5
    assert score.verdicts == {"1": 1, str(1 + M): None, "2": 0, str(2 + M): None}
    assert score.extracted == {"1": "A", str(1 + M): "B", "2": "A", str(2 + M): "A"}


def test_the_mean_of_the_verdicts_is_the_score(make):
    task = make((1, {}), (1 + M, {}), (2, {}))
    score = task.score({"1": "A", str(1 + M): "A", "2": "B"})
    verdicts = [verdict for verdict in score.verdicts.values() if verdict is not None]
    assert sum(verdicts) / len(verdicts) == score.value


def test_the_score_is_resampled_over_the_split_that_it_is_of(make):
    task = make((1, {"split": "test"}), (2, {}), (2 + M, {"answer": "B"}), (3, {}))
    score = task.score({"1": "A", "2": "A", str(2 + M): "A", "3": "A"})
    assert score.value == 0.5
    assert score.resampling.parts == {"2": (0, 1), "3": (1, 1)}


def test_a_file_of_originals_only_needs_those_only(make):
    assert make((1, {}), (2, {})).score({"1": "A", "2": "A"}).value == 1


def test_missing_copies_are_left_out_and_counted(make):
    score = make((1, {}), (1 + M, {"answer": "B"})).score({"1": "A"})
    assert (score.value, score.missing) == (1, 1)


def test_copies_without_their_original_are_ignored(make):
    task = make((1, {}), (2, {}), (2 + M, {}))
    assert task.score({"1": "A", str(2 + M): "B"}).value == 1
    with pytest.raises(DataError, match="no predictions for original questions"):
        task.score({str(2 + M): "A"})


def test_broad_abilities_are_abbreviated_and_come_first(make):
    rows = [
        (1, {"l2-category": "relation_reasoning", "category": "social_relation"}),
        (2, {"l2-category": "finegrained_perception (instance-level)", "category": "ocr"}),
        (3, {"l2-category": "finegrained_perception (cross-instance)", "category": "ocr"}),
    ]
    metrics = make(*rows).score({"1": "A", "2": "A", "3": "B"}).metrics["dev"]
    assert list(metrics) == ["Overall", "FP-C", "FP-S", "RR", "ocr", "social_relation"]
    assert metrics["FP-S"] == 1
    assert metrics["ocr"] == 0.5


def test_splits_are_scored_by_themselves_and_an_absent_ability_is_no_number(make):
    rows = [(1, {"split": "dev", "category": "x"}), (2, {"split": "test", "category": "y"})]
    score = make(*rows).score({"1": "A", "2": "B"})
    assert score.metrics["dev"]["Overall"] == score.value == 1
    assert score.metrics["test"]["Overall"] == 0
    assert math.isnan(score.metrics["test"]["x"])


def test_a_file_without_splits_has_the_split_none(make):
    columns = [column for column in COLUMNS if column != "split"]
    score = make((1, {}), columns=columns).score({"1": "A"})
    assert set(score.metrics) == {"none"}
    assert score.value == 1


def test_the_letter_must_be_among_the_last_four_words(make):
    task = make((1, {"answer": "B"}))
    assert task.score({"1": "qq rr B ss tt uu"}).value == 1
    assert task.score({"1": "qq rr B ss tt uu vv"}).value == 0


def test_options_go_through_the_spreadsheet_too_but_not_in_the_question(make):
    task = make((1, {"answer": "B", "B": "=x"}))
    assert next(task.samples()).question.options["B"] == "=x"
    assert task.score({"1": "= x"}).extracted == {"1": "B"}


def test_an_empty_prediction_matches_an_option_inside_nan(make):
    score = make((1, {"answer": "B", "A": "x", "B": "n"})).score({"1": ""})
    assert score.extracted == {"1": "B"}


def test_unread_answers_are_counted(make):
    score = make((1, {}), (2, {}), (3, {})).score({"1": "what?", "2": "Z", "3": None})
    assert (score.unextracted, score.failed, score.value) == (1, 1, 0)


@pytest.mark.parametrize(
    ("index", "cells", "message"),
    [
        ("one", {}, "column 'index': not a whole number"),
        (1, {"answer": "cat"}, "column 'answer'.*has no 'cat'"),
        (1, {"l2-category": "taste"}, "column 'l2-category'.*has no 'taste'"),
        (1, {"category": ""}, "column 'category': empty"),
    ],
)
def test_malformed_rows_are_refused(make, index, cells, message):
    with pytest.raises(DataError, match=message):
        next(make((index, cells)).samples())


def test_seedbench_rows_are_refused_and_recognised(make):
    columns = [column for column in COLUMNS if column != "l2-category"]
    with pytest.raises(DataError, match=r"no column 'l2-category'.*a file of SEEDBench"):
        make((1, {"category": "Instance Location"}), columns=columns)
