"""Rate-score curves: the points of one codec on one task, checked and interpolated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, get_args

from lossylens.errors import LossylensError

#: Piecewise cubic interpolants through every point: monotone between neighbours
#: (Fritsch and Carlson), or with Akima's local slopes.
Method = Literal["pchip", "akima"]
METHODS: tuple[Method, ...] = get_args(Method)

#: Fewer points say too little about a curve for a Bjontegaard figure.
MINIMUM_POINTS = 4


#: Scores nearer to zero are zero. Two others differ by at least a float's resolution of
#: this, by which the slopes of an interpolant can be divided.
LEAST_SCORE = 1e-60


class CurveError(LossylensError):
    """A measure has no value on a curve; the message says why."""


@dataclass(frozen=True)
class Curve:
    """Rate-score points in ascending order of rate.

    Attributes:
        rates: bits per pixel, positive and distinct.
        scores: one for each rate, in the unit of the task's metric; below
            :data:`LEAST_SCORE`, of either sign, they become zero.
    """

    rates: tuple[float, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        """Drop what no interpolant can tell from zero."""
        scores = tuple(0.0 if abs(score) < LEAST_SCORE else score for score in self.scores)
        object.__setattr__(self, "scores", scores)

    @classmethod
    def of(cls, points: Iterable[tuple[float, float]]) -> Curve:
        """Return the curve through (rate, score) *points*, given in any order.

        Raises:
            CurveError: a value is not finite, a rate not positive, or two are equal.
        """
        ordered = sorted(points)
        for rate, score in ordered:
            if not (math.isfinite(rate) and math.isfinite(score)):
                raise CurveError(f"the point ({rate:g} bpp, {score:g}) is not finite")
            if rate <= 0:
                raise CurveError(f"the rate {rate:g} bpp is not positive")
        for (rate, _), (other, _) in pairwise(ordered):
            if rate == other:
                raise CurveError(f"two points have the same rate, {rate:g} bpp")
        return cls(tuple(rate for rate, _ in ordered), tuple(score for _, score in ordered))

    def require(self, points: int = MINIMUM_POINTS) -> Curve:
        """Return the curve itself.

        Raises:
            CurveError: it has fewer *points*.
        """
        if len(self.rates) < points:
            has = "1 point" if len(self.rates) == 1 else f"{len(self.rates)} points"
            raise CurveError(f"{has}, {points} are needed")
        return self

    @property
    def low(self) -> float:
        """Lowest rate."""
        return self.rates[0]

    @property
    def high(self) -> float:
        """Highest rate."""
        return self.rates[-1]

    def negated(self) -> Curve:
        """Return the curve with all scores negated, for metrics where lower is better."""
        return Curve(self.rates, tuple(-score for score in self.scores))

    def interpolant(self, method: Method = "pchip") -> Any:
        """Return score as a function of linear rate, a SciPy ``PPoly``."""
        return _interpolant(self.rates, self.scores, method)

    def mean(self, low: float, high: float, method: Method = "pchip") -> float:
        """Return the mean of the interpolated score over rates *low* to *high*, in bpp."""
        return float(self.interpolant(method).integrate(low, high)) / (high - low)


# A codec is compared with all others, so its interpolant is used often.
@lru_cache(maxsize=1024)
def _interpolant(rates: tuple[float, ...], scores: tuple[float, ...], method: str) -> Any:
    return interpolator(method)(rates, scores)


def interpolator(method: str) -> Callable[..., Any]:
    """Return SciPy's class for *method*.

    Raises:
        CurveError: there is no such method.
    """
    from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

    classes = {"pchip": PchipInterpolator, "akima": Akima1DInterpolator}
    if method not in classes:
        raise CurveError(f"unknown interpolation {method!r}: use {' or '.join(METHODS)}")
    return classes[method]


def shared_range(first: Curve, second: Curve) -> tuple[float, float]:
    """Return the lowest and highest rate that both curves cover.

    Raises:
        CurveError: the curves do not overlap in rate.
    """
    low, high = max(first.low, second.low), min(first.high, second.high)
    if high <= low:
        raise CurveError(
            f"the rates do not overlap: {first.low:.4g} to {first.high:.4g} bpp"
            f" and {second.low:.4g} to {second.high:.4g} bpp"
        )
    return low, high


def falls(curve: Curve) -> list[int]:
    """Return the places of the points that score less than the point before them."""
    return [
        place for place, (before, after) in enumerate(pairwise(curve.scores), 1) if after < before
    ]
