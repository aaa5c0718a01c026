from __future__ import annotations

from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind
from lossylens_task_mme.plugin import MmeOptions
from lossylens_task_mme.task import CATEGORIES, PERCEPTION, REASONING, MmeTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv


class TestGolden(GoldenTests):
    task_class = MmeTask
    name = "mme"
    folder = Path(__file__).parent / "golden"


@pytest.fixture
def make(tmp_path):
    """Write rows of (category, path); without rows, one pair per category."""

    def make(*rows: tuple[str, str], answer: str = "Yes") -> MmeTask:
        rows = rows or tuple((category, "1.png") for category in CATEGORIES for _ in range(2))
        cells = {"question": "Is it?", "answer": answer}
        full = [{**cells, "category": category, "image_path": image} for category, image in rows]
        return MmeTask(MmeOptions(data=str(write_tsv(tmp_path / "MME.tsv", *full))))

    return make


def pairs(*extra: tuple[str, str]) -> list[tuple[str, str]]:
    """One pair per category, all but the first, and *extra* rows before them."""
    return [*extra, *((category, "1.png") for category in CATEGORIES[1:] for _ in range(2))]


def answers(task: MmeTask, *first: str) -> dict[str, str | None]:
    """Answer yes throughout, but for the first rows."""
    predictions = {sample.id: "yes" for sample in task.samples()}
    return predictions | {str(i): text for i, text in enumerate(first)}


def test_questions_are_verbatim(make):
    question = next(make().samples()).question
    assert (question.kind, question.text) == (QuestionKind.YES_NO, "Is it?")


def test_all_right_is_the_best_score(make):
    task = make()
    score = task.score(answers(task))
    assert score.metrics["perception"] == score.value == 2000 == 200 * len(PERCEPTION)
    assert score.metrics["reasoning"] == 800 == 200 * len(REASONING)


def test_the_sum_of_the_means_of_perception_is_resampled(make):
    """Accuracy and accuracy+ of each category; an image stands with its first question."""
    task = make(("OCR", "1.png"), ("OCR", "1.png"), ("color", "2.png"), ("code_reasoning", "3.png"))
    score = task.score({"0": "yes", "1": "no", "2": "yes", "3": "yes"})
    assert score.value == 150
    assert score.resampling.parts == {
        "0": (1, 1, 0, 1, 0, 0),
        "1": (0, 1, 0, 0, 0, 0),
        "2": (0, 0, 0, 0, 1, 1),
    }


def test_without_perception_there_is_nothing_to_resample(make):
    score = make(("code_reasoning", "3.png")).score({"0": "yes"})
    assert (score.value, score.resampling.parts) == (0, {})


def test_a_pair_counts_in_the_second_half_only_if_both_are_right(make):
    task = make()
    metrics = task.score(answers(task, "no")).metrics
    assert metrics["OCR"] == 50
    assert metrics["perception"] == 1850


def test_rows_of_a_pair_need_not_be_adjacent(make):
    task = make(*pairs(("OCR", "a"), ("OCR", "b"), ("OCR", "a"), ("OCR", "b")))
    assert task.score(answers(task, "no", "yes", "no", "yes")).metrics["OCR"] == 100


def test_one_path_in_two_categories_is_two_images(make):
    task = make()
    metrics = task.score(answers(task, "no", "no")).metrics
    assert (metrics["OCR"], metrics["artwork"]) == (0, 200)


def test_only_the_first_two_rows_of_an_image_count_as_a_pair(make):
    task = make(*pairs(("OCR", "a"), ("OCR", "a"), ("OCR", "a")))
    score = task.score(answers(task, "yes", "yes", "no"))
    assert score.metrics["OCR"] == pytest.approx(100 * 2 / 3 + 100)


def test_an_image_with_one_prediction_is_left_out_of_the_pairs_with_a_warning(make, caplog):
    task = make(*pairs(("OCR", "a"), ("OCR", "a"), ("OCR", "b"), ("OCR", "b")))
    predictions = answers(task, "yes", "yes", "no")
    del predictions["3"]
    score = task.score(predictions)
    assert score.metrics["OCR"] == pytest.approx(100 * 2 / 3 + 100)
    assert score.missing == 1
    assert "one prediction only on 1 images; the reference evaluator gives no score" in caplog.text


def test_images_without_predictions_are_left_out_and_counted(make):
    task = make(*pairs(("OCR", "a"), ("OCR", "a"), ("OCR", "b"), ("OCR", "b")))
    predictions = answers(task, "no", "no", "yes", "yes")
    del predictions["0"], predictions["1"]
    score = task.score(predictions)
    assert (score.metrics["OCR"], score.missing) == (200, 2)


def test_a_category_without_predictions_adds_nothing_with_a_warning(make, caplog):
    task = make()
    score = task.score({"0": "yes", "1": "yes"})
    assert score.metrics == {"perception": 200, "reasoning": 0, "OCR": 200}
    assert "no predictions in artwork, celebrity" in caplog.text


def test_a_complete_set_gives_no_warning(make, caplog):
    task = make()
    task.score(answers(task))
    assert not caplog.records


def test_a_prediction_that_begins_with_an_equals_sign_is_unknown(make):
    task = make()
    assert task.score(answers(task, "=yes")).extracted["0"] == "Unknown"


def test_pope_rows_are_refused_and_recognised(make):
    with pytest.raises(DataError, match=r"MME has no 'random'.*a file of POPE"):
        next(make(("random", "1.png")).samples())


def test_an_answer_that_is_neither_yes_nor_no_is_refused(make):
    with pytest.raises(DataError, match="column 'answer'"):
        next(make(answer="A").samples())
