"""Mean ranks of items over several judgements, and how far the judgements agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranking:
    """Items by mean rank.

    Attributes:
        ranks: mean rank of each item, 1 the best, best first.
        judgements: how many were used: those with a value for every item.
        concordance: Kendall's W, 0 for no agreement and 1 for full; NaN for fewer
            than two judgements or items.
    """

    ranks: Mapping[str, float]
    judgements: int
    concordance: float


def rank(table: Mapping[str, Mapping[str, float]]) -> Ranking:
    """Return items by mean rank, higher values being better and ties sharing ranks.

    Args:
        table: for each judgement (such as a task) the value of each item.
            Judgements that lack an item are left out, since they would favour
            whoever missed a hard one.
    """
    import numpy as np
    from scipy.stats import rankdata

    items = list(dict.fromkeys(item for values in table.values() for item in values))
    full = [values for values in table.values() if len(values) == len(items)]
    if not full:
        return Ranking({}, 0, float("nan"))
    ranks = np.array([rankdata([-values[item] for item in items]) for values in full])
    means = dict(zip(items, ranks.mean(axis=0).tolist(), strict=True))
    ordered = dict(sorted(means.items(), key=lambda pair: pair[1]))
    return Ranking(ordered, len(full), _concordance(ranks))


def _concordance(ranks: object) -> float:
    """Return Kendall's W of ranks of shape (judgements, items), ties corrected."""
    import numpy as np

    matrix = np.asarray(ranks, dtype=float)
    judges, items = matrix.shape
    if judges < 2 or items < 2:
        return float("nan")
    sums = matrix.sum(axis=0)
    ties = 0.0
    for row in matrix:
        counts = np.unique(row, return_counts=True)[1]
        ties += float((counts**3 - counts).sum())
    spread = float(((sums - sums.mean()) ** 2).sum())
    most = judges**2 * (items**3 - items) - judges * ties
    return 12 * spread / most if most else float("nan")
