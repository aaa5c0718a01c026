"""MMBench, scored as the reference evaluator scores it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lossylens.errors import DataError
from lossylens.task import Resampling
from lossylens_toolkit.tsv_task import (
    Judged,
    MultipleChoiceTask,
    Row,
    Summary,
    means_by_split,
    split_of,
)

from lossylens_task_mmbench.plugin import DATASET, SPEC

#: Distance between the indices of a question's copies.
ROTATION = 1_000_000

#: The six broad abilities, and the names under which their scores are reported.
ABILITIES = {
    "attribute_reasoning": "AR",
    "coarse_perception": "CP",
    "finegrained_perception (cross-instance)": "FP-C",
    "finegrained_perception (instance-level)": "FP-S",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
}

_WHOLE_NUMBER = re.compile(r"[0-9]+")


class MmbenchTask(MultipleChoiceTask):
    """Questions that come once per option, the options rotated from copy to copy."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check answer, abilities and index.

        Raises:
            DataError: one of them is missing or unknown.
        """
        self.one_of(row, "l2-category", tuple(ABILITIES))
        super().check(row)
        row.text("category")
        if not _WHOLE_NUMBER.fullmatch(row.id):
            raise row.error("index", "not a whole number, which tells copies from originals")

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the share of questions whose copies were all answered right.

        Copies without a prediction are left out, and so are copies of a question
        whose original has none.  The verdict on a question is that of its
        original; copies have none of their own.

        Raises:
            DataError: there is no prediction for any original.
        """
        right: dict[int, bool] = {}
        originals: list[Judged] = []
        for each in judged:
            index = int(each.row.id)
            question = index % ROTATION
            right[question] = right.get(question, True) and each.verdict.credit == 1
            if index == question:
                originals.append(each)
        hits = {each.row.id: (each.row, float(right[int(each.row.id)])) for each in originals}
        if not hits:
            raise DataError(
                f"{self.table.path}: no predictions for original questions, whose index is below "
                f"{ROTATION}"
            )
        metrics = means_by_split(hits.values(), ("l2-category", "category"))
        verdicts: dict[str, float | None] = dict.fromkeys(each.row.id for each in judged)
        verdicts |= {row_id: hit for row_id, (_, hit) in hits.items()}
        renamed = {split: _renamed(means) for split, means in metrics.items()}
        primary = _primary_split(renamed)
        counted = {row_id: hit for row_id, (row, hit) in hits.items() if split_of(row) == primary}
        return Summary(renamed, verdicts, Resampling.mean(counted))

    def primary_value(self, metrics: Mapping[str, Any]) -> float:
        """Return ``Overall`` of the split ``dev``, else of the file's first split."""
        return float(metrics[_primary_split(metrics)]["Overall"])


def _primary_split(metrics: Mapping[str, Any]) -> str:
    return "dev" if "dev" in metrics else next(iter(metrics))


def _renamed(means: Mapping[str, float]) -> dict[str, float]:
    return {ABILITIES.get(name, name): mean for name, mean in means.items()}
