"""MMMU, scored as the reference evaluator scores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lossylens.task import ImageRef, Resampling
from lossylens.vlm import interleaved
from lossylens_toolkit.tsv_task import (
    OPTION_LETTERS,
    Judged,
    MultipleChoiceTask,
    Row,
    Summary,
    Verdict,
    means_by_split,
    split_of,
)
from lossylens_toolkit.tsv_task.choice import REFUSED
from lossylens_toolkit.tsv_task.multiple_choice import options
from lossylens_toolkit.tsv_task.unusable import unusable

from lossylens_task_mmmu.open_questions import is_right
from lossylens_task_mmmu.plugin import DATASET, SPEC

#: What an open question offers beside the right answer.
OTHER_ANSWERS = "Other Answers"

#: Name of the metrics in which open questions are scored by the rule of MMMU's authors.
OFFICIAL = "open questions by MMMU's rule"


class MmmuTask(MultipleChoiceTask):
    """Multiple choice and open questions, with up to seven images in question and options."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check that a question with options has an answer, and each its subject.

        Raises:
            DataError: one of them is missing.
        """
        for column in ("category", "l2-category", *(["answer"] if options(row) else [])):
            row.text(column)

    def images(self, row: Row) -> tuple[ImageRef, ...]:
        """Return all images of the row.

        Where a marker speaks of one that the row has not, a last one stands for it that
        cannot be read, so that the sample fails and the others do not.
        """
        images = row.images()
        text = "\n".join([row.text("question"), *options(row).values()])
        try:
            interleaved(text, len(images))
        except ValueError as error:
            reason = f"{error}; add it to the list in column 'image' or take the marker out"
            return (*images, unusable(row.id, row.error("", reason)))
        return images

    def choices(self, row: Row) -> dict[str, str]:
        """Return the options; of an open question, the answer and ``Other Answers``.

        So it is of any question without an option A, and of one whose option A is a
        missing-value word, such as ``None``.
        """
        if row.get("A") is not None:
            return options(row)
        answer = row.get("answer")
        right = {} if answer is None else {"A": answer}
        return options(row) | right | {"B": OTHER_ANSWERS}

    def right_letter(self, row: Row) -> str:
        """Return the answer if it is a letter, also of an open question; else A."""
        answer = row.get("answer")
        return answer if answer in OPTION_LETTERS else "A"

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Compare the choice in *prediction* with the answer; ``Z`` stands for none."""
        verdict = super().verdict(row, prediction)
        return verdict if verdict.found else replace(verdict, extracted=REFUSED)

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the share of right answers by split: of all, per subject, per discipline.

        Beside it, what comes of it when open questions are scored by MMMU's own rule.
        """
        hits = [(each.row, each.verdict.credit or 0.0) for each in judged]
        metrics: dict[str, Any] = {**means_by_split(hits, ("l2-category", "category"))}
        primary = _primary_split(metrics)
        counted = {row.id: hit for row, hit in hits if split_of(row) == primary}
        metrics[OFFICIAL] = _by_the_official_rule(judged)
        return Summary(metrics, resampling=Resampling.mean(counted))

    def primary_value(self, metrics: Mapping[str, Any]) -> float:
        """Return ``Overall`` of the split ``validation``, else of the file's first split."""
        return float(metrics[_primary_split(metrics)]["Overall"])


def _primary_split(metrics: Mapping[str, Any]) -> str:
    return "validation" if "validation" in metrics else next(iter(metrics))


def _by_the_official_rule(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Return by split the share of right answers, of all and of the open questions."""
    hits: dict[str, list[float]] = {}
    of_open: dict[str, list[float]] = {}
    for each in judged:
        split, hit = split_of(each.row), each.verdict.credit or 0.0
        if not options(each.row):
            answer = each.row.get("answer")
            # A failed prediction alone has nothing extracted.
            said = each.prediction if each.verdict.extracted else None
            hit = float(said is not None and answer is not None and is_right(said, answer))
            of_open.setdefault(split, []).append(hit)
        hits.setdefault(split, []).append(hit)
    return {
        split: {
            "Overall": _mean(all_),
            **({"open": _mean(of_open[split])} if split in of_open else {}),
        }
        for split, all_ in hits.items()
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
