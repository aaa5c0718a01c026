"""POPE, scored as the reference evaluator scores it."""

from __future__ import annotations

from collections.abc import Sequence

from lossylens.task import Aggregate, Resampling
from lossylens_toolkit.tsv_task import YES, Judged, Row, Summary, YesNoTask

from lossylens_task_pope.plugin import DATASET, SPEC

SPLITS = ("random", "popular", "adversarial")
OVERALL = "Overall"


class PopeTask(YesNoTask):
    """Yes-no questions, each in one or more of three splits."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check answer and splits.

        Raises:
            DataError: the answer is not Yes or No, or a split is unknown.
        """
        for split in _splits(row):
            if split not in SPLITS:
                raise self.unexpected(row, "category", split, SPLITS)
        super().check(row)

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the metrics of each split and of all splits pooled.

        A question counts once for each of its splits, also in the pool.
        """
        by_split: dict[str, list[Judged]] = {OVERALL: []}
        for each in judged:
            for split in _splits(each.row):
                by_split[OVERALL].append(each)
                by_split.setdefault(split, []).append(each)
        metrics = {split: split_metrics(members) for split, members in by_split.items()}
        return Summary(metrics, resampling=_f1_of_all_splits(judged))


def split_metrics(judged: Sequence[Judged]) -> dict[str, float]:
    """Return the metrics of a split in percent; ``Overall`` is the F1 score.

    Yes is the positive answer.  An answer that is neither Yes nor No counts as No
    in F1, precision and recall, and as wrong in the accuracy.
    """
    said_yes = sum(each.verdict.extracted == YES for each in judged)
    is_yes = sum(each.row.text("answer") == YES for each in judged)
    true_yes = sum(
        each.verdict.extracted == YES and each.row.text("answer") == YES for each in judged
    )
    precision = true_yes / said_yes if said_yes else 0.0
    recall = true_yes / is_yes if is_yes else 0.0
    f1 = 2 * precision * recall / (precision + recall) if true_yes else 0.0
    accuracy = sum(each.verdict.credit or 0.0 for each in judged) / len(judged)
    return {
        "Overall": 100 * f1,
        "acc": 100 * accuracy,
        "precision": 100 * precision,
        "recall": 100 * recall,
    }


def _f1_of_all_splits(judged: Sequence[Judged]) -> Resampling:
    parts = {}
    for each in judged:
        said, true = each.verdict.extracted == YES, each.row.text("answer") == YES
        count = len(_splits(each.row))
        parts[each.row.id] = (
            count * float(said and true),
            count * float(said),
            count * float(true),
        )
    return Resampling(Aggregate.F1, parts, 100)


def _splits(row: Row) -> list[str]:
    return row.text("category").split(",")
