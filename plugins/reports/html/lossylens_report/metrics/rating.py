"""One rating of many codecs, each pair compared over the rates that both cover.

Codecs seldom share one rate range: a generative codec may end below where JPEG
begins.  Every pair that overlaps gives a difference in score at equal rate;
ratings are the least-squares solution of ``rating[a] - rating[b] = difference``,
each pair weighted by how much of the narrower curve is shared (Massey,
"Statistical models applied to the rating of sports teams", 1997).  A rating is the
advantage in score over the mean codec.  Codecs that no chain of overlapping pairs
connects cannot be rated against each other and form pools of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from lossylens_report.metrics.bd import shared_difference
from lossylens_report.metrics.curve import Curve, CurveError, Method


@dataclass(frozen=True)
class Rating:
    """A codec's rating.

    Attributes:
        value: advantage over the mean codec of its pool, in the unit of the metric.
        wins, pairs: how many of how many overlapping pairs it wins.
        pool: number of its pool, 0 for the largest.
    """

    value: float
    wins: int
    pairs: int
    pool: int


def shared_ratings(curves: Mapping[str, Curve], method: Method = "pchip") -> dict[str, Rating]:
    """Return the rating of each codec, higher scores being better.

    Codecs with fewer than four points, or that overlap with no other, are left out.

    Args:
        curves: rate-score curve of each codec, on one task and model.
        method: interpolant over linear rate.
    """
    pairs: dict[tuple[str, str], tuple[float, float]] = {}
    for first, second in combinations(curves, 2):
        try:
            shared = shared_difference(curves[first], curves[second], method)
        except CurveError:
            continue
        pairs[first, second] = (shared.value, shared.share)
    names = [name for name in curves if any(name in pair for pair in pairs)]
    if not names:
        return {}
    values, pools = _solve(names, pairs)
    return {
        name: Rating(
            values[name],
            sum(
                (difference > 0) == (name == first)
                for (first, second), (difference, _) in pairs.items()
                if name in (first, second) and difference
            ),
            sum(name in pair for pair in pairs),
            pools[name],
        )
        for name in names
    }


def _solve(
    names: list[str], pairs: Mapping[tuple[str, str], tuple[float, float]]
) -> tuple[dict[str, float], dict[str, int]]:
    """Return rating and pool of each name."""
    import numpy as np
    from scipy.sparse.csgraph import connected_components

    place = {name: number for number, name in enumerate(names)}
    rows = np.zeros((len(pairs), len(names)))
    wanted = np.zeros(len(pairs))
    links = np.zeros((len(names), len(names)))
    for row, ((first, second), (difference, share)) in enumerate(pairs.items()):
        weight = share**0.5  # of the squared residual: the share itself
        rows[row, place[first]], rows[row, place[second]] = weight, -weight
        wanted[row] = weight * difference
        links[place[first], place[second]] = 1
    # The least-squares solution of least norm has mean zero in each pool.
    solution = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    _, labels = connected_components(links, directed=False)
    sizes = np.bincount(labels)
    order = sorted(range(len(sizes)), key=lambda pool: -sizes[pool])
    rank = {pool: number for number, pool in enumerate(order)}
    return (
        {name: float(solution[place[name]]) for name in names},
        {name: rank[int(labels[place[name]])] for name in names},
    )
