from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind, default_prompt
from lossylens_task_mmmu.open_questions import is_right
from lossylens_task_mmmu.plugin import MmmuOptions
from lossylens_task_mmmu.task import OFFICIAL, MmmuTask
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, write_tsv

COLUMNS = ["index", "image", "question", *"ABCDE", "answer", "category", "l2-category", "split"]
PICTURE, OTHER = (base64.b64encode(b"\x89PNG" + 60 * filler).decode() for filler in (b"a", b"b"))


class TestGolden(GoldenTests):
    task_class = MmmuTask
    name = "mmmu"
    folder = Path(__file__).parent / "golden"
    beside = frozenset({OFFICIAL})

    def test_open_questions_by_the_official_rule(self, task, case):
        """The verdicts of MMMU's own script."""
        rows = {row.id: row for row in task.table}
        seen = 0
        for index, expected in case.expected["rows"].items():
            if "hit_official_open" in expected:
                right = is_right(case.predictions[index], rows[index].text("answer"))
                assert right == bool(expected["hit_official_open"]), index
                seen += 1
        official = case.expected["other_evaluators"]
        [counts] = official.values()
        assert seen == counts["questions"]


@pytest.fixture
def make(tmp_path):
    """Write rows; each is what differs from a usual one."""

    def make(*rows: dict[str, str]) -> MmmuTask:
        usual = {"question": "Which is <image 1>?", "answer": "A", "A": "cat", "B": "dog"}
        usual |= {
            "image": PICTURE,
            "category": "Science",
            "l2-category": "Math",
            "split": "validation",
        }
        full = [usual | row for row in rows]
        path = write_tsv(tmp_path / "MMMU.tsv", *full, columns=COLUMNS)
        return MmmuTask(MmmuOptions(data=str(path)))

    return make


OPEN = {"A": "", "B": ""}


def verdict(task: MmmuTask, prediction: str) -> tuple[float, str]:
    score = task.score({"0": prediction})
    return score.verdicts["0"], score.extracted["0"]


def test_several_images_are_read_in_the_order_of_the_list(make):
    rows = [{"image": f"['{PICTURE}', '{OTHER}']", "question": "<image 2> or <image 1>?"}]
    sample = next(make(*rows, {"image": "0"}).samples())
    assert [image.key for image in sample.images] == ["0_0", "0_1"]
    first, second = (pickle.loads(pickle.dumps(image.read))() for image in sample.images)
    assert first[:4] == b"\x89PNG"
    assert first != second


def test_a_reference_to_several_images_shares_them(make):
    task = make({"image": f"['{PICTURE}', '{OTHER}']"}, {"image": "0", "A": "<image 2>"})
    first, second = task.samples()
    assert [image.key for image in first.images] == [image.key for image in second.images]


def test_images_that_no_marker_speaks_of_are_allowed(make):
    sample = next(make({"image": f"['{PICTURE}', '{OTHER}']", "question": "Which?"}).samples())
    assert len(sample.images) == 2


@pytest.mark.parametrize("cells", [{"A": "<image 3>"}, {"question": "<image 1> <image 3>?"}])
def test_a_marker_without_its_image_fails_alone(make, cells):
    task = make({"image": f"['{PICTURE}', '{OTHER}']", **cells}, {})
    bad, good = task.samples()
    *images, absent = bad.images
    assert len(images) == 2
    message = (
        r"MMMU.tsv: row 1 \(index 0\): the question speaks of <image 3>, but there are 2 "
        "images; add it to the list in column 'image' or take the marker out"
    )
    with pytest.raises(DataError, match=message):
        absent.read()
    assert [image.read()[:4] for image in (*images, *good.images)] == [b"\x89PNG"] * 3


def test_an_open_question_has_no_options(make):
    question = next(make(OPEN | {"answer": "12"}).samples()).question
    assert question.kind is QuestionKind.MULTIPLE_CHOICE
    assert default_prompt(question) == "Question: Which is <image 1>?\n"


@pytest.mark.parametrize(
    ("cells", "prediction", "expected"),
    [
        # The answer's text in a short reply, the letter, or the other choice.
        (OPEN | {"answer": "12 mm"}, "It is 12 mm.", (1, "A")),
        (OPEN | {"answer": "12"}, "A", (1, "A")),
        (OPEN | {"answer": "12"}, "I choose A here", (1, "A")),
        (OPEN | {"answer": "12"}, "other answers", (0, "B")),
        (OPEN | {"answer": "12"}, "13", (0, "Z")),
        (OPEN | {"answer": "12"}, "x" * 29 + "12", (0, "Z")),
        (OPEN | {"answer": "['3', '4']"}, "3", (0, "Z")),
        # A letter stays the right one, though there are A and B alone.
        (OPEN | {"answer": "C"}, "C", (0, "A")),
        (OPEN | {"answer": "B"}, "Other answers", (1, "B")),
        (OPEN | {"answer": "None"}, "A", (0, "Z")),
        # An option that is a missing-value word is no option; a first one makes it open.
        ({"A": "None", "C": "fox", "answer": "C"}, "fox", (1, "C")),
        ({"A": "None", "answer": "B"}, "B", (1, "B")),
        ({"A": "None", "answer": "B"}, "Other Answers", (1, "B")),
        ({"A": "None", "answer": "B"}, "dog", (0, "Z")),
        ({"B": "NA", "C": "fox"}, "B", (0, "Z")),
        ({"E": "ox", "answer": "E"}, "(E)", (1, "E")),
        # What is no letter counts as A.
        ({"answer": "cat"}, "A", (1, "A")),
    ],
)
def test_choices(make, cells, prediction, expected):
    assert verdict(make(cells), prediction) == expected


def test_metrics_by_split_subject_and_discipline(make):
    task = make({}, {"l2-category": "Art", "category": "Art & Design"}, {"split": "dev"})
    score = task.score({"0": "A", "1": "B", "2": "A"})
    assert score.metrics["validation"] == {
        "Overall": 0.5,
        "Art": 0,
        "Math": 1,
        "Art & Design": 0,
        "Science": 1,
    }
    assert score.metrics["dev"]["Overall"] == 1
    assert score.value == 0.5
    assert set(score.resampling.parts) == {"0", "1"}


def test_without_the_split_validation_the_first_one_counts(make):
    assert make({"split": "dev"}).score({"0": "A"}).value == 1
    assert make({"split": ""}).score({"0": "A"}).metrics["none"]["Overall"] == 1


def test_the_official_rule_stands_beside(make):
    task = make({}, OPEN | {"answer": "['12', '3']"}, OPEN | {"answer": "an"}, {"split": "dev"})
    score = task.score({"0": "A", "1": "so x = 3", "2": None, "3": "B"})
    assert score.metrics["validation"]["Overall"] == pytest.approx(1 / 3)
    assert score.metrics[OFFICIAL] == {
        "validation": {"Overall": pytest.approx(2 / 3), "open": 0.5},
        "dev": {"Overall": 0},
    }


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        ("The result is 3.14159", "3.14", True),
        ("The result is 3.14159", "3.142", True),
        ("1,234.5", "1234.5", True),
        ("about 1,234 of them", "1234", True),
        ("2e3", "2000", True),
        ("It is -5", "-5", True),
        ("It is 5 or 6", "6", True),
        ("It is 25", "5", False),
        ("x = 7", "7", True),
        # Only in the last line is an equals sign a phrase; other lines keep what they said.
        ("x = 7\nso it is red", "red", True),
        ("The answer is red.\nThanks", "blue", False),
        ("BLUE whale", "blue", True),
        ("a", "a", True),
        ("b a", "a", True),
        ("cat", "a", False),
        ("the answer is:\n:", "x", False),
        ("is \nred", "red", True),
    ],
)
def test_the_official_rule(prediction, answer, right):
    assert is_right(prediction, answer) is right


@pytest.mark.parametrize("column", ["category", "l2-category", "answer"])
def test_what_a_row_must_have(make, column):
    with pytest.raises(DataError, match=f"column '{column}': empty"):
        next(make({column: ""}).samples())
