"""Bjontegaard figures of rate-score curves.

Two families are in use and are kept apart by name:

* :func:`bd_metric` is the figure of the published tables: the mean score over the
  codec's **own** rate range, on a linear rate axis, minus the uncompressed score.
  Figures of two codecs are therefore not at equal rate.
* :func:`shared_difference` compares two codecs over the rates that both cover, on
  the same linear axis.  :func:`bd_rate` and :func:`bd_quality` are the classical
  figures (Bjontegaard, VCEG-M33, 2001), over log10 of the rate.

A curve that admits no figure is refused with a
:class:`~lossylens_report.metrics.curve.CurveError`, never repaired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from lossylens_report.metrics.curve import Curve, CurveError, Method, interpolator, shared_range


@dataclass(frozen=True)
class Shared:
    """A difference over the range that two curves share.

    Attributes:
        value: mean difference, in the unit of the metric; positive: the test scores higher.
        low, high: the shared range, in bpp.
        share: its length over that of the narrower curve, 0 to 1.
    """

    value: float
    low: float
    high: float
    share: float


def bd_metric(curve: Curve, reference: float, method: Method = "pchip") -> float:
    """Return the BD-metric as the published tables define it.

    Args:
        curve: at least four points.
        reference: the uncompressed score.
        method: interpolant over linear rate; the published figures are PCHIP's.

    Raises:
        CurveError: fewer than four points, or no uncompressed score.
    """
    if not math.isfinite(reference):
        raise CurveError("no uncompressed score")
    curve.require()
    return curve.mean(curve.low, curve.high, method) - reference


def shared_difference(test: Curve, anchor: Curve, method: Method = "pchip") -> Shared:
    """Return the mean of *test* minus *anchor* over the rates that both cover.

    Raises:
        CurveError: one has fewer than four points, or they do not overlap.
    """
    test.require()
    anchor.require()
    low, high = shared_range(test, anchor)
    value = test.mean(low, high, method) - anchor.mean(low, high, method)
    narrower = min(test.high - test.low, anchor.high - anchor.low)
    return Shared(value, low, high, (high - low) / narrower)


def bd_quality(anchor: Curve, test: Curve, method: Method = "pchip") -> float:
    """Return the mean gain in score of *test* at equal log10 rate; positive is better.

    Raises:
        CurveError: fewer than four points, or no overlap in rate.
    """
    low, high = map(math.log10, shared_range(anchor.require(), test.require()))
    mean_test = _integral(*_log_curve(test), low, high, method)
    return (mean_test - _integral(*_log_curve(anchor), low, high, method)) / (high - low)


def bd_rate(anchor: Curve, test: Curve, method: Method = "pchip") -> float:
    """Return the mean change in rate of *test* at equal score, in percent; negative saves.

    Raises:
        CurveError: fewer than four points, scores that do not rise with the rate, or
            no overlap in score.
    """
    for curve in (anchor, test):
        curve.require()
        for (rate, score), (higher, other) in pairwise(zip(curve.rates, curve.scores, strict=True)):
            if other <= score:
                raise CurveError(
                    f"the score does not rise from {rate:.4g} bpp ({score:.4g})"
                    f" to {higher:.4g} bpp ({other:.4g})"
                )
    low = max(anchor.scores[0], test.scores[0])
    high = min(anchor.scores[-1], test.scores[-1])
    if high <= low:
        raise CurveError("the scores do not overlap")
    rates_test, scores_test = _log_curve(test)
    rates_anchor, scores_anchor = _log_curve(anchor)
    difference = _integral(scores_test, rates_test, low, high, method) - _integral(
        scores_anchor, rates_anchor, low, high, method
    )
    return float((10 ** (difference / (high - low)) - 1) * 100)


def _log_curve(curve: Curve) -> tuple[list[float], tuple[float, ...]]:
    return [math.log10(rate) for rate in curve.rates], curve.scores


def _integral(
    x: list[float] | tuple[float, ...],
    y: list[float] | tuple[float, ...],
    low: float,
    high: float,
    method: Method,
) -> float:
    return float(interpolator(method)(x, y).integrate(low, high))
