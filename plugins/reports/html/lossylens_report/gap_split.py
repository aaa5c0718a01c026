"""Reading the gap split out of the folder of a run that ``lossylens gap`` has made.

That command leaves the plan of its trainings in the run folder; what follows from their
answers is computed here, so that a report is never older than its run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lossylens.cells import UNCOMPRESSED
from lossylens.run.aggregate import aggregate_of_sums
from lossylens.store.database import Store
from lossylens.store.read_models import GridCell, grid, resampling
from lossylens.store.records import NO_ADAPTOR
from lossylens.task import Aggregate, Primary
from lossylens_toolkit.training.gap_plan import CONTROL, JOINT, POINT, GapPlan

from lossylens_report.metrics.bootstrap import Array
from lossylens_report.metrics.curve import CurveError
from lossylens_report.metrics.split import (
    Estimate,
    Way,
    chooses,
    estimate,
    mean_over_rates,
    recovered,
    split,
)
from lossylens_report.replicates import Clusters
from lossylens_report.run_results import GapSplit, SplitPoint, WayGain


def read_split(store: Store, folder: Path, metrics: Mapping[str, Primary]) -> GapSplit | None:
    """Return the gap split of a run; None if it was not made by ``lossylens gap``.

    Args:
        store: of the run.
        folder: of the run.
        metrics: the primary metrics, by task label.

    Raises:
        StoreError: the plan of the trainings is malformed.
    """
    plan = GapPlan.read(folder)
    if plan is None:
        return None
    rows = [
        row
        for row in grid(store)
        if row.vlm == plan.vlm and row.score and row.score.value is not None
    ]
    points: list[SplitPoint] = []
    codecs: list[WayGain] = []
    clean: dict[tuple[str, str], Estimate] = {}
    left_out: list[str] = []
    images: dict[str, tuple[int, int]] = {}
    for label in dict.fromkeys(row.task for row in rows):
        task = _Task(plan, store, [row for row in rows if row.task == label])
        obstacle = task.obstacle(metrics[label])
        if obstacle:
            left_out.append(f"{label}: {obstacle}")
            continue
        images[label] = task.images
        points += task.points(label, metrics[label].shown(1.0))
        codecs += task.codecs(label)
        clean |= {(label, name): each for name, each in task.clean()}
        left_out += (f"{label}: {text}" for text in task.lacking)
    seeds = max(len(each.adaptors) for each in plan.ways.values())
    return GapSplit(plan.vlm, seeds, tuple(points), tuple(codecs), clean, images, tuple(left_out))


#: Adaptor, codec and level, labels all.
_Place = tuple[str, str, str]


class _Task:
    """The cells of one task."""

    def __init__(self, plan: GapPlan, store: Store, rows: Sequence[GridCell]) -> None:
        self._plan, self._rows = plan, rows
        self._made = {row.key: resampling(store, row.key) for row in rows}
        clusters = dict.fromkeys(store.clusters(rows[0].task_key).values())
        self._choosing = [each for each in clusters if chooses(each, plan.share)]
        self._reported = [each for each in clusters if not chooses(each, plan.share)]
        self.lacking: list[str] = []

    @property
    def images(self) -> tuple[int, int]:
        """How many clusters of images choose, and how many are reported."""
        return len(self._choosing), len(self._reported)

    def obstacle(self, metric: Primary) -> str:
        """Return why there is no split, or ``""``."""
        if any(made is None for made in self._made.values()):
            return "the task does not say how its score is made of its samples"
        if not metric.higher_is_better:
            return f"of its metric {metric.name} less is better"
        if min(self.images) < 2:
            return f"its {sum(self.images)} images are too few to choose by some of them"
        return ""

    def points(self, label: str, shown: float) -> Iterator[SplitPoint]:
        """Yield the split at each codec and level, in the order of the grid."""
        self._measure(shown)
        clean, rates = self._source(), self._rates()
        names = self._of_kind(JOINT)
        one = self._one(names, clean)
        trained = {point for name in names for point in self._plan.ways[name].points}
        for point, bpp in rates.items():
            ways = {
                name: way
                for name in (*self._of_kind(POINT, point), *names)
                if (way := self._way(name, point, clean))
            }
            control = next(iter(self._of_kind(CONTROL)), "")
            base = self._scores((NO_ADAPTOR,), *point)
            plain = self._scores((NO_ADAPTOR,), *clean)
            if not ways or base is None or plain is None:
                continue
            joint = [name for name in names if name in ways]
            yield SplitPoint(
                label,
                *point,
                bpp=float("nan") if bpp is None else bpp,
                unseen=point not in trained and not self._of_kind(POINT, point),
                one=one if one in ways else "",
                split=split(
                    plain,
                    base,
                    ways,
                    one=ways.get(one),
                    control=self._way(control, point, clean) if control else None,
                ),
                gains={name: estimate(way.scores - base) for name, way in ways.items()},
                apart={
                    name: estimate(ways[name].scores - ways[joint[0]].scores) for name in joint[1:]
                },
            )
        self.lacking += self._unfinished(rates, clean)

    def codecs(self, label: str) -> Iterator[WayGain]:
        """Yield the BD gains of the joint ways, of the codecs that have them."""
        rates, clean = self._rates(), self._source()
        plain = self._scores((NO_ADAPTOR,), *clean)
        for codec in dict.fromkeys(codec for codec, _ in rates):
            points = [point for point in rates if point[0] == codec]
            bpp = [rates[point] or float("nan") for point in points]
            base = [self._scores((NO_ADAPTOR,), *point) for point in points]
            for name in self._of_kind(JOINT):
                ways = [self._scores(self._plan.ways[name].adaptors, *point) for point in points]
                known = [
                    (one, other)
                    for one, other in zip(base, ways, strict=True)
                    if one is not None and other is not None
                ]
                if plain is None or len(known) < len(points):
                    continue
                try:
                    loss = plain - mean_over_rates(bpp, [one for one, _ in known])
                    gain = mean_over_rates(bpp, [other for _, other in known]) - (plain - loss)
                except CurveError:
                    continue
                yield WayGain(
                    label,
                    codec,
                    name,
                    unseen=not set(points) & set(self._plan.ways[name].points),
                    loss=estimate(-loss),
                    gain=estimate(gain),
                    recovered=recovered(gain, loss),
                )

    def clean(self) -> Iterator[tuple[str, Estimate]]:
        """Yield what each way of tuning changes on uncompressed images."""
        source = self._source()
        plain = self._scores((NO_ADAPTOR,), *source)
        for name, each in self._plan.ways.items():
            scores = self._scores(each.adaptors, *source)
            if scores is not None and plain is not None:
                yield name, estimate(scores - plain)

    def _rates(self) -> dict[tuple[str, str], float | None]:
        """Return codecs and levels that compress, in the order of the grid, with their rates."""
        return {
            (row.codec, row.level): row.score.rate if row.score else None
            for row in self._rows
            if row.adaptor == NO_ADAPTOR and row.codec != UNCOMPRESSED
        }

    def _measure(self, shown: float) -> None:
        """Compute all scores of both parts of the images."""
        reported = Clusters(self._reported)
        formed: list[tuple[_Place, Aggregate, float, slice]] = []
        self._chosen_by: dict[_Place, float] = {}
        for row in self._rows:
            place, made = (row.adaptor, row.codec, row.level), self._made[row.key]
            assert made is not None, "a task that is an obstacle is left out"
            sums, aggregate, factor = made.sums, Aggregate(made.aggregate), made.factor * shown
            # Nothing is known of images whose questions have no verdict.
            nothing = [0.0] * len(next(iter(sums.values())))
            total = np.sum([sums.get(each, nothing) for each in self._choosing], axis=0)
            self._chosen_by[place] = float(aggregate_of_sums(aggregate, total, factor))
            columns = reported.add({each: sums.get(each, nothing) for each in self._reported})
            formed.append((place, aggregate, factor, columns))
        measured = np.vstack([reported.sums().sum(axis=0), reported.drawn()])
        self._measured = {
            place: aggregate_of_sums(aggregate, measured[:, columns], factor)
            for place, aggregate, factor, columns in formed
        }

    def _source(self) -> tuple[str, str]:
        """Return codec and level that stand for images as they are."""
        for row in self._rows:
            if row.codec == UNCOMPRESSED:
                return row.codec, row.level
        return UNCOMPRESSED, ""

    def _of_kind(self, kind: str, point: tuple[str, str] | None = None) -> list[str]:
        return [
            name
            for name, each in self._plan.ways.items()
            if each.kind == kind and (point is None or each.points == (point,))
        ]

    def _scores(self, adaptors: Sequence[str], codec: str, level: str) -> Array | None:
        """Return scores of shape (adaptors, 1 + replicates); None if one is lacking."""
        found = [self._measured.get((each, codec, level)) for each in adaptors]
        if any(each is None for each in found):
            return None
        return np.stack([each for each in found if each is not None])

    def _way(self, name: str, point: tuple[str, str], clean: tuple[str, str]) -> Way | None:
        adaptors = self._plan.ways[name].adaptors
        scores = self._scores(adaptors, *point)
        if scores is None:
            return None
        choosing = np.mean([self._chosen_by[each, *point] for each in adaptors])
        return Way(float(choosing), scores, self._scores(adaptors, *clean))

    def _one(self, names: Sequence[str], clean: tuple[str, str]) -> str:
        """Return the joint way that is best over all points that it was trained on."""
        means: dict[str, float] = {}
        for name in names:
            ways = [self._way(name, point, clean) for point in self._plan.ways[name].points]
            found = [way.choosing for way in ways if way]
            if found and len(found) == len(ways):
                means[name] = float(np.mean(found))
        return max(means, key=lambda name: means[name]) if means else ""

    def _unfinished(
        self, points: Mapping[tuple[str, str], Any], clean: tuple[str, str]
    ) -> Iterator[str]:
        for name, each in self._plan.ways.items():
            due = [point for point in each.points if point in points] or [clean]
            if any(self._scores(each.adaptors, *point) is None for point in due):
                yield f"{name}: not all of its cells are scored"
