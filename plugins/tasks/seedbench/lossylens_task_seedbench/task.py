"""SEEDBench, scored as the reference evaluator scores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossylens_toolkit.tsv_task import (
    Judged,
    MultipleChoiceTask,
    Row,
    Summary,
    mean_credit,
    means_by_split,
    split_of,
)

from lossylens_task_seedbench.plugin import DATASET, SPEC

CATEGORIES = (
    "Instance Attributes",
    "Instance Identity",
    "Instance Interaction",
    "Instance Location",
    "Instances Counting",
    "Scene Understanding",
    "Spatial Relation",
    "Text Understanding",
    "Visual Reasoning",
)


class SeedbenchTask(MultipleChoiceTask):
    """Questions with four options, in nine categories."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check category and answer.

        Raises:
            DataError: one of them is missing or unknown.
        """
        self.one_of(row, "category", CATEGORIES)
        super().check(row)

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the share of right answers, of all and per category."""
        hits = ((each.row, each.verdict.credit or 0.0) for each in judged)
        metrics = means_by_split(hits, ("category",))
        first = [each for each in judged if split_of(each.row) == next(iter(metrics))]
        return Summary(metrics, resampling=mean_credit(first))

    def primary_value(self, metrics: Mapping[str, Any]) -> float:
        """Return ``Overall`` of the only split, else of the file's first split."""
        return float(next(iter(metrics.values()))["Overall"])
