"""Confidence intervals by the bootstrap, resampling clusters rather than questions.

Questions about one image share its content and its compression, so they are not
independent; the unit that is drawn is the image, or whatever else a task calls a cluster
(the cluster bootstrap of Davison and Hinkley, *Bootstrap Methods and their Application*,
1997, section 3.8).  A metric enters as sums over clusters, such as hits and questions, so
that one matrix product recomputes it for all replicates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Replicates of a score, and of a BD-metric, whose interpolation takes longer.
REPLICATES = 1000
BD_REPLICATES = 200
LEVEL = 0.95
SEED = 20240101

# Weights drawn at once; bounds the memory at 8 bytes each.
_DRAWN = 4_000_000


def resampled_sums(sums: Array, replicates: int = REPLICATES, seed: int = SEED) -> Array:
    """Return sums over clusters drawn with replacement.

    Args:
        sums: per cluster, of shape (clusters, columns).
        replicates: how often as many clusters as there are are drawn.
        seed: of the generator.

    Returns:
        Array of shape (replicates, columns).
    """
    clusters = len(sums)
    generator = np.random.Generator(np.random.PCG64(seed))
    result = np.empty((replicates, sums.shape[1]))
    step = max(1, _DRAWN // clusters)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        drawn = generator.integers(0, clusters, (size, clusters))
        flat = (drawn + np.arange(size)[:, None] * clusters).ravel()
        weights = np.bincount(flat, minlength=size * clusters).reshape(size, clusters)
        result[start : start + size] = weights.astype(np.float64) @ sums
    return result


def interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of replicates; those that are NaN do not count."""
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
