"""The bootstrap over a run's clusters of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from lossylens.cells import CellResult
from lossylens.codec import bits_per_pixel
from lossylens.run.aggregate import aggregate_of_sums
from lossylens.store.database import Store
from lossylens.store.read_models import GridCell, encoded_images, resampling
from lossylens.task import Aggregate, Primary

from lossylens_report.metrics.bootstrap import Array, resampled_sums

#: The share of draws that must have a score.  The others, in which one of the groups whose means
#: count was not drawn, are left out of intervals.
_ENOUGH = 0.1


@dataclass(frozen=True)
class Replicates:
    """Bootstrap replicates of one cell; the same draw of clusters has the same place in all.

    Attributes:
        scores: of shape (replicates,), as reports show scores; NaN for draws without a
            sample that counts, or without one of a group whose mean counts.
        rates: mean bits per pixel, of the same shape; None for an uncompressed cell.
    """

    scores: Array
    rates: Array | None


def replicate(
    store: Store,
    rows: Sequence[GridCell],
    cells: Sequence[CellResult],
    metrics: Mapping[str, Primary],
) -> dict[str, Replicates]:
    """Return bootstrap replicates by cell key, of the cells whose score can be resampled.

    Args:
        store: of the run.
        rows: cells of the run.
        cells: their results.
        metrics: the primary metrics, by task label.
    """
    found: dict[str, Replicates] = {}
    codecs = {row.key: row.codec_key for row in rows}
    for label, task in {row.task: row.task_key for row in rows}.items():
        of_task = [cell for cell in cells if cell.task == label]
        found |= _of_task(store, task, of_task, codecs, metrics[label].shown(1.0))
    return found


def _of_task(
    store: Store, task: str, cells: Sequence[CellResult], codecs: Mapping[str, str], shown: float
) -> dict[str, Replicates]:
    """Draw the clusters of one task once for all its cells."""
    clusters = Clusters(store.clusters(task).values())
    formed: list[tuple[CellResult, Aggregate, float, slice]] = []
    rates: dict[str, slice | None] = {}
    for cell in cells:
        made = resampling(store, cell.key)
        if made is None:
            continue
        columns = clusters.add(made.sums)
        formed.append((cell, Aggregate(made.aggregate), made.factor * shown, columns))
        codec = codecs[cell.key]
        if codec not in rates:
            encoded = _rate_sums(store, task, codec)
            rates[codec] = clusters.add(encoded) if encoded else None
    if len(clusters) < 2 or not formed:
        return {}
    drawn = clusters.drawn()
    found = {}
    for cell, aggregate, factor, columns in formed:
        scores = aggregate_of_sums(aggregate, drawn[:, columns], factor)
        if np.isfinite(scores).mean() >= _ENOUGH:
            measured = rates[codecs[cell.key]]
            # A codec that is not measured has its nominal rate.
            rate = (
                np.full(len(drawn), cell.bpp)
                if measured is None
                else aggregate_of_sums(Aggregate.MEAN, drawn[:, measured])
            )
            found[cell.key] = Replicates(scores, None if cell.uncompressed else rate)
    return found


class Clusters:
    """Columns of sums over the clusters of a task, to be drawn together.

    Args:
        names: of the clusters of all samples, in the order of the data.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._place = {name: place for place, name in enumerate(dict.fromkeys(names))}
        self._blocks: list[tuple[list[int], Array]] = []
        self._width = 0

    def __len__(self) -> int:
        return len(self._place)

    def add(self, sums: Mapping[str, Sequence[float]]) -> slice:
        """Add sums by cluster; return their columns.

        A score that is not of the latest samples may have clusters of its own.
        """
        places = [self._place.setdefault(name, len(self._place)) for name in sums]
        block = np.array(list(sums.values()), dtype=np.float64)
        self._blocks.append((places, block))
        columns = slice(self._width, self._width + block.shape[1])
        self._width = columns.stop
        return columns

    def drawn(self) -> Array:
        """Return the sums of each draw, of shape (replicates, columns)."""
        return resampled_sums(self.sums())

    def sums(self) -> Array:
        """Return the sums by cluster, of shape (clusters, columns)."""
        sums = np.zeros((len(self._place), self._width))
        start = 0
        for places, block in self._blocks:
            sums[places, start : start + block.shape[1]] = block
            start += block.shape[1]
        return sums


def _rate_sums(store: Store, task: str, codec: str) -> dict[str, list[float]]:
    """Return the sum of rates and the number of images of each cluster.

    An image counts once, in equal parts in all clusters that have it.
    """
    encoded = encoded_images(store, task, codec)
    shared = Counter(each.image for each in encoded)
    sums: dict[str, list[float]] = {}
    for each in encoded:
        rate = bits_per_pixel(each.size, each.width, each.height)
        of_cluster = sums.setdefault(each.cluster, [0.0, 0.0])
        of_cluster[0] += rate / shared[each.image]
        of_cluster[1] += 1 / shared[each.image]
    return sums
