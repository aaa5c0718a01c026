"""RefCOCO, RefCOCO+ and RefCOCOg, scored as the reference evaluator scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lossylens.errors import DataError
from lossylens.files.predictions import canonical_index
from lossylens.task import ImageRef, Resampling, Sample, Score
from lossylens.vlm import Question, QuestionKind, format_box
from lossylens_toolkit.tsv_task import Judged, Row, Summary, TsvTask, Verdict
from lossylens_toolkit.tsv_task.tsv_header import INDEX
from lossylens_toolkit.tsv_task.unusable import unusable
from lossylens_toolkit.written_boxes import four_numbers

from lossylens_task_refcoco.plugin import DATASET, SPEC, RefcocoOptions
from lossylens_task_refcoco.reading import Corners, guessed, overlap, scaled
from lossylens_task_refcoco.splits import SPLITS, split_of
from lossylens_task_refcoco.truth import SIDES, TEXTS, Truths, size
from lossylens_task_refcoco.units import in_units

AVERAGE = "Average"

#: From which overlap on a box is right.
THRESHOLD = 0.5

#: So far, in pixels, a true box may reach beyond its picture: sides are rounded.
_TOLERATED = 1.0

#: What is made of the numbers of a box, in a picture of some width and height.
Rule = Callable[[Corners, float, float], Corners]


class RefcocoTask(TsvTask):
    """Referring expressions; the answer is a box."""

    spec = SPEC
    dataset = DATASET
    options: RefcocoOptions

    def __init__(self, options: RefcocoOptions) -> None:
        super().__init__(options)
        self._truths = Truths(self.table)
        if not self._truths.known:
            columns = ", ".join((*SIDES[0], *SIDES[1], *TEXTS))
            raise DataError(f"{self.table.path}: no column with boxes; looked for {columns}")

    def question(self, row: Row) -> Question:
        """Return the question, verbatim."""
        return Question(QuestionKind.BOX, row.text("question"), task=self.spec.name)

    def fields(self, row: Row) -> Mapping[str, str]:
        """Return the split, and the true box in fractions of the picture."""
        box = self._truths.box(row)
        answer = {} if box is None else {"answer": _fractions(box, row)}
        return {"category": split_of(row.cells), **answer}

    def samples(self) -> Iterator[Sample]:
        """Yield all samples; one whose box is not in its picture fails.

        Raises:
            DataError: a malformed row, when it is reached.
        """
        for row in self.table:
            yield Sample(row.id, (self._image(row),), self.question(row), self.fields(row))

    def _image(self, row: Row) -> ImageRef:
        width, height = size(row)
        box = self._truths.box(row)
        if box is None:
            return unusable(row.id, row.error("", "no box; give one or remove the row"))
        left, top, right, bottom = box
        inside = -_TOLERATED <= left < right <= width + _TOLERATED
        if not inside or not -_TOLERATED <= top < bottom <= height + _TOLERATED:
            shown = ", ".join(f"{side:g}" for side in box)
            problem = (
                f"the box [{shown}] (left, top, right, bottom) is not in the picture of"
                f" {width:g}x{height:g} pixels; correct the box, or the columns width and height"
            )
            return unusable(row.id, row.error("", problem))
        return row.image()

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Return whether the boxes overlap by half, and the box in fractions of the picture."""
        box = _read(row, prediction, guessed)
        if box is None:
            return Verdict(0.0, found=False)
        return Verdict(float(self._overlap(row, box) >= THRESHOLD), _fractions(box, row))

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return hits and mean overlap of each split, and their means over the splits."""
        metrics: dict[str, Any]
        metrics, groups = self._metrics(judged, guessed)
        units = self.options.units
        if units != "guessed":
            pixels = (self.options.min_pixels, self.options.max_pixels)
            known, _ = self._metrics(
                judged, lambda box, width, height: in_units(box, units, width, height, pixels)
            )
            metrics = {**metrics, f"boxes in {units}": known}
        return Summary(metrics, resampling=Resampling.sum_of_means(groups, 100 / len(groups)))

    def _metrics(
        self, judged: Sequence[Judged], rule: Rule
    ) -> tuple[dict[str, dict[str, float]], list[dict[str, float]]]:
        """Return the metrics, and the hits of each of the groups whose mean is taken."""
        overlaps: dict[str, dict[str, float]] = {}
        for each in judged:
            box = _read(each.row, each.prediction, rule)
            value = 0.0 if box is None else self._overlap(each.row, box)
            overlaps.setdefault(split_of(each.row.cells), {})[each.row.id] = value
        known = [split for split in SPLITS if split in overlaps]
        metrics = {
            split: _means(overlaps[split].values())
            for split in (*known, *sorted(overlaps.keys() - known))
        }
        groups = [_hits(overlaps[split]) for split in known]
        if known:
            # Splits of other names count nothing, unless there are no others.
            metrics[AVERAGE] = {
                name: float(np.mean([metrics[split][name] for split in known]))
                for name in metrics[known[0]]
            }
        else:
            everything = {key: value for each in overlaps.values() for key, value in each.items()}
            ordered = {each.row.id: everything[each.row.id] for each in judged}
            metrics[AVERAGE], groups = _means(ordered.values()), [_hits(ordered)]
        return metrics, groups

    def score(self, predictions: Mapping[str, str | None]) -> Score:
        """Score *predictions*, whose indices may be preceded by the split, as the evaluator's are.

        Raises:
            DataError: a malformed row; predictions for unknown rows, or for none.
        """
        if any(canonical_index(index) not in self.table for index in predictions):
            ids = {
                f"{split_of(row.cells)}_{canonical_index(row.text(INDEX))}": row.id
                for row in self.table
            }
            own = [(ids.get(index, index), text) for index, text in predictions.items()]
            if len(dict(own)) < len(own):
                raise DataError(f"{self.table.path}: two predictions for one row")
            predictions = dict(own)
        return super().score(predictions)

    def _overlap(self, row: Row, box: Corners) -> float:
        truth = self._truths.box(row)
        return 0.0 if truth is None else overlap(box, truth)


def _read(row: Row, prediction: str, rule: Rule) -> Corners | None:
    numbers = four_numbers(prediction)
    return None if numbers is None else rule(numbers, *size(row))


def _fractions(box: Corners, row: Row) -> str:
    width, height = size(row)
    return format_box(scaled(box, 1 / width, 1 / height))


def _means(overlaps: Iterable[float]) -> dict[str, float]:
    values = list(overlaps)
    hits = [value >= THRESHOLD for value in values]
    # numpy adds up pairwise, and so does the evaluator.
    return {"Precision@1": float(np.mean(hits)) * 100, "Average IoU": float(np.mean(values))}


def _hits(overlaps: Mapping[str, float]) -> dict[str, float]:
    return {sample: float(value >= THRESHOLD) for sample, value in overlaps.items()}
