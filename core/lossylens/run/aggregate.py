"""Scores as aggregates of sums over samples; see :class:`lossylens.task.Resampling`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossylens.task import Aggregate


def aggregate_of_sums(aggregate: Aggregate, sums: Any, factor: float = 1.0) -> Any:
    """Return the score that sums over samples come to.

    Args:
        aggregate: how a score is made of the sums.
        sums: of shape (..., columns), for as many scores.
        factor: of the result.

    Returns:
        Array of shape (...); NaN where a mean has no weight.
    """
    sums = np.asarray(sums, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        if aggregate is Aggregate.F1:
            true, predicted, actual = np.moveaxis(sums, -1, 0)
            return factor * np.where(true > 0, 2 * true / (predicted + actual), 0.0)
        return factor * (sums[..., 0::2] / sums[..., 1::2]).sum(axis=-1)


def takes(aggregate: Aggregate, count: int) -> bool:
    """Whether an aggregate is made of *count* sums."""
    if aggregate is Aggregate.SUM_OF_MEANS:
        return count > 0 and count % 2 == 0
    return count == (3 if aggregate is Aggregate.F1 else 2)
