"""Confidence intervals by the bootstrap, resampling images rather than questions.

Questions about one image share its content and its compression, so they are not
independent; the image is the unit that is drawn (the cluster bootstrap of Davison
and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8).  A metric
enters as a function of sums over images, such as hits and questions, so that one
matrix product recomputes it for all replicates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    """Return sums over images drawn with replacement.

    Args:
        sums: per image, of shape (images, columns).
        replicates: how often as many images as there are are drawn.
        seed: of the generator.

    Returns:
        Array of shape (replicates, columns).
    """
    images = len(sums)
    generator = np.random.Generator(np.random.PCG64(seed))
    result = np.empty((replicates, sums.shape[1]))
    step = max(1, _DRAWN // images)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        drawn = generator.integers(0, images, (size, images))
        flat = (drawn + np.arange(size)[:, None] * images).ravel()
        weights = np.bincount(flat, minlength=size * images).reshape(size, images)
        result[start : start + size] = weights.astype(np.float64) @ sums
    return result


def interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of replicates; those that are NaN do not count."""
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def mean_of_sums(factor: float) -> Callable[[Array], Any]:
    """Return ``factor * hits / questions`` as a function of sums of shape (..., 2)."""

    def statistic(sums: Array) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return factor * sums[..., 0] / sums[..., 1]

    return statistic


def f1_of_sums(sums: Array) -> Any:
    """Return F1 in percent from sums of (true yes, said yes, is yes); 0 without true yes."""
    true, said, positive = sums[..., 0], sums[..., 1], sums[..., 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = 200 * true / (said + positive)
    return np.where(true > 0, value, 0.0)
