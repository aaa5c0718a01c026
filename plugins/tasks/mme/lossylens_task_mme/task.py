"""MME, scored as the reference evaluator scores it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from lossylens.task import Resampling
from lossylens_toolkit.tsv_task import Judged, Row, Summary, YesNoTask

from lossylens_task_mme.plugin import DATASET, SPEC

_log = logging.getLogger(__name__)

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


class MmeTask(YesNoTask):
    """Yes-no questions in pairs on one image, in fourteen categories."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check category, answer and the path that pairs the questions.

        Raises:
            DataError: one of them is missing or unknown.
        """
        self.one_of(row, "category", CATEGORIES)
        super().check(row)
        row.text("image_path")

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the score of each category, and the sums of perception and reasoning.

        The reference evaluator stops at a category without predictions and at an
        image with one only.  Here the sums are over the categories that have
        some, and a warning says so: a part of the data can be scored, but not
        compared with scores of the whole.
        """
        groups: dict[str, Images] = {}
        for each in judged:
            images = groups.setdefault(each.row.text("category"), {})
            images.setdefault(each.row.text("image_path"), []).append(each)
        self._warn_of_gaps(groups)
        scores = {category: category_score(images) for category, images in groups.items()}
        totals = {
            "perception": sum(scores.get(category, 0.0) for category in PERCEPTION),
            "reasoning": sum(scores.get(category, 0.0) for category in REASONING),
        }
        perception = [groups[category] for category in PERCEPTION if category in groups]
        means = [half for images in perception for half in halves(images)]
        return Summary(totals | scores, resampling=Resampling.sum_of_means(means, 100))

    def _warn_of_gaps(self, groups: Mapping[str, Images]) -> None:
        absent = [category for category in CATEGORIES if category not in groups]
        single = sum(len(each) < _PAIR for images in groups.values() for each in images.values())
        gaps = [f"no predictions in {', '.join(absent)}"] if absent else []
        gaps += [f"one prediction only on {single} images"] if single else []
        if gaps:
            _log.warning("MME: %s; the reference evaluator gives no score there", "; ".join(gaps))


def halves(images: Images) -> tuple[dict[str, float], dict[str, float]]:
    """Return the credits whose means are the accuracy and the accuracy+, by row.

    The accuracy is over all questions.  The accuracy+ is the share of images
    whose first two questions are both answered right, an image standing with its first
    question; one with one prediction is left out of it.
    """
    single: dict[str, float] = {}
    both: dict[str, float] = {}
    for group in images.values():
        credit = {each.row.id: each.verdict.credit or 0.0 for each in group}
        single |= credit
        if len(group) >= _PAIR:
            both[group[0].row.id] = min(list(credit.values())[:_PAIR])
    return single, both


def category_score(images: Images) -> float:
    """Return accuracy plus accuracy+, in percent each, so that 200 is the best."""
    return sum(_percent(half.values()) for half in halves(images))


def _percent(values: Collection[float]) -> float:
    return 100 * sum(values) / len(values) if values else 0.0
