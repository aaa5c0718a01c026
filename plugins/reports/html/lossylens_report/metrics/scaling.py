"""Does a larger model lose less?  Drop in score against the number of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lossylens_report.metrics.correlation import constant
from lossylens_report.metrics.curve import CurveError


@dataclass(frozen=True)
class Trend:
    """A straight line through drop against log10 of the number of parameters.

    Attributes:
        slope: change of the drop for ten times the parameters.
        intercept: drop at one million parameters.
        rank_correlation: Spearman's.
        models: how many.
    """

    slope: float
    intercept: float
    rank_correlation: float
    models: int


def trend(parameters: Sequence[float], drops: Sequence[float]) -> Trend:
    """Return the least-squares line through *drops* over log10 *parameters*.

    Args:
        parameters: millions, positive, three different ones at least.
        drops: one for each.

    Raises:
        CurveError: fewer than three sizes, or drops that are all alike.
    """
    import numpy as np
    from scipy.stats import linregress, spearmanr

    if len(set(parameters)) < 3:
        raise CurveError(f"models of {len(set(parameters))} sizes, three are needed")
    if constant(drops):
        raise CurveError("the drops are all alike")
    line = linregress(np.log10(parameters), drops)
    rank = spearmanr(parameters, drops).statistic
    return Trend(float(line.slope), float(line.intercept), float(rank), len(drops))
