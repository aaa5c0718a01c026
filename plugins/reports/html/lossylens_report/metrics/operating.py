"""Operating points: the least rate that keeps a share of the uncompressed score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lossylens_report.metrics.curve import Curve, CurveError, Method

#: Shares of the uncompressed score that are asked for by default.
SHARES = (0.90, 0.95, 0.99)


@dataclass(frozen=True)
class OperatingPoint:
    """Where a curve reaches a share of the uncompressed score.

    Attributes:
        share: of the uncompressed score.
        bpp: least rate that reaches it, interpolated between the measured points;
            None where no measured rate does.
        bound: whether even the lowest measured rate reaches it, so that *bpp* is
            only an upper bound.
        unstable: whether a measured point at a higher rate falls below it again.
        best: the largest share that a measured point keeps.
    """

    share: float
    bpp: float | None
    bound: bool
    unstable: bool
    best: float


def operating_point(
    curve: Curve, reference: float, share: float, method: Method = "pchip"
) -> OperatingPoint:
    """Return where *curve* first reaches *share* of *reference*; nothing is extrapolated.

    Args:
        curve: two points or more, of a metric where higher is better.
        reference: the uncompressed score.
        share: such as 0.95.
        method: interpolant over linear rate.

    Raises:
        CurveError: one point only, or a reference that is not positive.
    """
    curve.require(2)
    if not (math.isfinite(reference) and reference > 0):
        raise CurveError(f"the uncompressed score, {reference:g}, is not positive")
    target = share * reference
    best = max(curve.scores) / reference
    bpp = _first_crossing(curve, target, method)
    unstable = bpp is not None and any(
        rate > bpp and score < target for rate, score in zip(curve.rates, curve.scores, strict=True)
    )
    return OperatingPoint(share, bpp, curve.scores[0] >= target, unstable, best)


def _first_crossing(curve: Curve, target: float, method: Method) -> float | None:
    if curve.scores[0] >= target:
        return curve.low
    reached = [place for place, score in enumerate(curve.scores) if score >= target]
    if not reached:
        return None
    # The first measured point that reaches it bounds the crossing from above, so
    # that an overshoot of the interpolant elsewhere does not count.
    roots = curve.interpolant(method).solve(target, extrapolate=False)
    low, high = curve.rates[reached[0] - 1], curve.rates[reached[0]]
    within = [float(root) for root in roots if low < root <= high]
    return min(within, default=high)
