from __future__ import annotations

from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.vlm import default_prompt
from lossylens_task_seedbench.plugin import SeedbenchOptions
from lossylens_task_seedbench.task import SeedbenchTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv


class TestGolden(GoldenTests):
    task_class = SeedbenchTask
    name = "seedbench"
    folder = Path(__file__).parent / "golden"


@pytest.fixture
def make(tmp_path):
    def make(*rows: tuple[str, str]) -> SeedbenchTask:
        cells = {"question": "Which?", "A": "cat", "B": "dog", "C": "fox", "D": "None"}
        full = [{**cells, "answer": answer, "category": category} for answer, category in rows]
        path = write_tsv(tmp_path / "SEEDBench.tsv", *full)
        return SeedbenchTask(SeedbenchOptions(data=str(path)))

    return make


def test_an_option_that_is_a_missing_value_word_vanishes(make):
    question = next(make(("A", "Instance Location")).samples()).question
    assert default_prompt(question) == (
        "Question: Which?\nOptions:\nA. cat\nB. dog\nC. fox\n"
        "Please select the correct answer from the options above. \n"
    )


def test_overall_is_the_mean_over_rows_not_over_categories(make):
    task = make(("A", "Visual Reasoning"), ("A", "Visual Reasoning"), ("B", "Spatial Relation"))
    score = task.score({"0": "A", "1": "cat", "2": "A"})
    expected = {"Overall": pytest.approx(2 / 3), "Spatial Relation": 0, "Visual Reasoning": 1}
    assert score.metrics == {"none": expected}
    assert list(score.metrics["none"]) == ["Overall", "Spatial Relation", "Visual Reasoning"]
    assert score.verdicts == {"0": 1, "1": 1, "2": 0}


def test_missing_predictions_are_left_out_and_counted(make):
    task = make(("A", "Visual Reasoning"), ("B", "Spatial Relation"))
    score = task.score({"0": "A"})
    assert score.metrics == {"none": {"Overall": 1, "Visual Reasoning": 1}}
    assert score.missing == 1


def test_unread_refused_and_failed_answers_are_wrong(make):
    task = make(*[("A", "Visual Reasoning")] * 4)
    refusal = "I can't process this file. A"
    score = task.score({"0": "A", "1": "what?", "2": refusal, "3": None})
    assert score.extracted == {"0": "A", "1": "", "2": "Z", "3": ""}
    assert (score.value, score.unextracted, score.failed) == (0.25, 1, 1)


def test_a_prediction_that_begins_with_an_equals_sign_is_0(make):
    score = make(("A", "Visual Reasoning")).score({"0": "=A"})
    assert score.extracted == {"0": ""}


def test_the_file_with_pictures_by_path_is_read(tmp_path):
    folder = tmp_path / "images" / "SEEDBench_IMG"
    folder.mkdir(parents=True)
    (folder / "0.jpg").write_bytes(b"jpeg")
    path = tmp_path / "SEEDBench_IMG_local.tsv"
    header = "index\timage_path\tquestion\tA\tB\tC\tD\tanswer\tcategory\n"
    row = "\t0.jpg\tWhich?\tcat\tdog\tfox\tcow\tA\tVisual Reasoning\n"
    path.write_text(f"{header}0{row}1{row}")
    samples = list(SeedbenchTask(SeedbenchOptions(data=str(path))).samples())
    assert [sample.images[0].read() for sample in samples] == [b"jpeg", b"jpeg"]
    assert len({sample.images[0].key for sample in samples}) == 1


def test_rows_of_another_data_set_are_refused(make):
    with pytest.raises(DataError, match="SEEDBench has no 'ocr', only Instance Attributes"):
        make(("A", "ocr")).score({"0": "A"})
