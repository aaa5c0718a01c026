"""MME, scored as the reference evaluator scores it."""

from __future__ import annotations

from collections.abc import Sequence

from lossylens.errors import DataError
from lossylens.toolkit.tsv_task import (
    NO,
    UNKNOWN,
    YES,
    Judged,
    Row,
    Summary,
    TsvTask,
    Verdict,
    extract_yes_no,
)
from lossylens.vlm import Question, QuestionKind

from lossylens_task_mme.plugin import DATASET, SPEC

PERCEPTION = (
    "OCR",
    "artwork",
    "celebrity",
    "color",
    "count",
    "existence",
    "landmark",
    "position",
    "posters",
    "scene",
)
REASONING = (
    "code_reasoning",
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
)
CATEGORIES = PERCEPTION + REASONING

# Questions about an image that enter acc+, the first in the file.
_PAIR = 2

#: Verdicts on the questions about each image, by the image's path.
Images = dict[str, list[Judged]]


class MmeTask(TsvTask):
    """Yes-no questions in pairs on one image, in fourteen categories."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check category, answer and the path that pairs the questions.

        Raises:
            DataError: one of them is missing or unknown.
        """
        self.one_of(row, "category", CATEGORIES)
        self.one_of(row, "answer", (YES, NO))
        row.text("image_path")

    def question(self, row: Row) -> Question:
        """Return the question, verbatim."""
        return Question(QuestionKind.YES_NO, row.text("question"), task=SPEC.name)

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Compare the yes or no in *prediction* with the answer; Unknown is wrong."""
        extracted = extract_yes_no(prediction)
        return Verdict(float(extracted == row.text("answer")), extracted, extracted != UNKNOWN)

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the score of each category, and the sums of perception and reasoning.

        Raises:
            DataError: an image has one prediction only, or a category none; the
                reference evaluator stops there.
        """
        groups: dict[str, Images] = {}
        for each in judged:
            images = groups.setdefault(each.row.text("category"), {})
            images.setdefault(each.row.text("image_path"), []).append(each)
        absent = [category for category in CATEGORIES if category not in groups]
        if absent:
            raise DataError(
                f"{self.table.path}: MME needs predictions in all its categories; there are none "
                f"in {', '.join(absent)}"
            )
        scores = {category: category_score(images) for category, images in groups.items()}
        totals = {
            "perception": sum(scores[category] for category in PERCEPTION),
            "reasoning": sum(scores[category] for category in REASONING),
        }
        return Summary(totals | scores)


def category_score(images: Images) -> float:
    """Return accuracy plus accuracy+, in percent each, so that 200 is the best.

    The accuracy is over all questions.  The accuracy+ is the share of images
    whose first two questions are both answered right.

    Raises:
        DataError: an image has one question only.
    """
    credit = [each.verdict.credit or 0.0 for group in images.values() for each in group]
    both = [min(_credit(group)) for group in images.values()]
    return 100 * sum(credit) / len(credit) + 100 * sum(both) / len(both)


def _credit(group: Sequence[Judged]) -> list[float]:
    if len(group) < _PAIR:
        raise group[0].row.error(
            "image_path",
            "MME scores the two questions on an image together, and this is the only one on its "
            "image that has a prediction",
        )
    return [each.verdict.credit or 0.0 for each in group[:_PAIR]]
