"""The gap split with what it is worth: over images and training seeds, and as bounds.

No training is known to be the best one, so that what an adapted model still lacks is at most
the information gap, and what it wins back at least the generalisation gap.  Of several
trainings the best is chosen on other images than those that are reported: the best of
several on the same images would be the luckiest.

Scores are arrays of shape (seeds, 1 + replicates): a row for each training seed, the score
as measured first and the same for draws of images behind it.  The same place has the same
draw in all, so that differences are paired.  A model that is not trained has one row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossylens_report.metrics.bootstrap import SEED, Array, interval
from lossylens_report.metrics.curve import LEAST_SCORE, Curve, interpolator

#: From so many training seeds on, they are drawn as well; fewer say nothing about their spread.
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: mean over the seeds.
        low, high: over images, and over seeds where there are :data:`LEAST_SEEDS`.
        seeds: by itself for each training seed; one value where none was trained.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Way:
    """One way of tuning, with all its seeds.

    Attributes:
        choosing: mean score, over seeds, on the images that choose.
        scores: at the rate point.
        uncompressed: on images as they are; None where they were not asked about.
    """

    choosing: float
    scores: Array
    uncompressed: Array | None


@dataclass(frozen=True)
class Split:
    """The gap of one VLM at one rate point and its parts; positive is what compression costs.

    Attributes:
        tuned: the way of tuning that is the best on the images that choose.
        uncompressed, compressed, adapted: scores of the model on original images, of the
            same on compressed ones, and of the adapted model on these.
        performance: uncompressed minus compressed.
        information: uncompressed minus adapted, an upper bound.
        generalisation: adapted minus compressed, a lower bound.
        recovered: generalisation in percent of performance; None where the interval of
            that reaches zero.
        one: the way that serves all points, as adapted and its gain; None without one.
        clean: adapted minus plain score on uncompressed images; None if not measured.
        control: gain at the point of the model that was tuned on uncompressed images alone.
        control_clean: its gain on uncompressed images.
    """

    tuned: str
    uncompressed: Estimate
    compressed: Estimate
    adapted: Estimate
    performance: Estimate
    information: Estimate
    generalisation: Estimate
    recovered: Estimate | None
    one: tuple[Estimate, Estimate] | None
    clean: Estimate | None
    control: Estimate | None
    control_clean: Estimate | None


def chooses(cluster: str, share: float) -> bool:
    """Whether the images of a cluster are among the *share* of all by which trainings are chosen.

    Args:
        cluster: its name, which has the hashes of its images unless the task names it.
        share: 0 to 1.
    """
    digest = hashlib.sha256(cluster.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


def estimate(values: Array, seed: int = SEED) -> Estimate:
    """Return the figure that *values*, of shape (seeds, 1 + replicates), come to."""
    count, drawn = len(values), values[:, 1:]
    if count >= LEAST_SEEDS:
        generator = np.random.Generator(np.random.PCG64(seed))
        picks = generator.integers(0, count, (count, drawn.shape[1]))
        means = np.take_along_axis(drawn, picks, axis=0).mean(axis=0)
    else:
        means = drawn.mean(axis=0)
    low, high = interval(means)
    observed = values[:, 0]
    return Estimate(float(observed.mean()), low, high, tuple(observed.tolist()))


def split(
    uncompressed: Array,
    compressed: Array,
    ways: Mapping[str, Way],
    *,
    one: Way | None = None,
    control: Way | None = None,
) -> Split:
    """Return the split at one rate point.

    Args:
        uncompressed, compressed: scores of the model as it is, more being better.
        ways: of tuning, by name, at least one; of several that choose alike the first is taken.
        one: the way that serves all rate points.
        control: the model tuned on uncompressed images alone.
    """
    tuned = max(ways, key=lambda name: ways[name].choosing)
    best = ways[tuned]
    performance = uncompressed - compressed
    gain = best.scores - compressed
    return Split(
        tuned=tuned,
        uncompressed=estimate(uncompressed),
        compressed=estimate(compressed),
        adapted=estimate(best.scores),
        performance=estimate(performance),
        information=estimate(uncompressed - best.scores),
        generalisation=estimate(gain),
        recovered=recovered(gain, performance),
        one=(estimate(one.scores), estimate(one.scores - compressed)) if one else None,
        clean=_gain(best.uncompressed, uncompressed),
        control=_gain(control.scores, compressed) if control else None,
        control_clean=_gain(control.uncompressed, uncompressed) if control else None,
    )


def _gain(scores: Array | None, base: Array) -> Estimate | None:
    return None if scores is None else estimate(scores - base)


def recovered(part: Array, whole: Array) -> Estimate | None:
    """Return *part* in percent of *whole*; None where the interval of that reaches zero."""
    return estimate(_percent(part, whole)) if estimate(whole).low > LEAST_SCORE else None


def mean_over_rates(rates: Sequence[float], scores: Sequence[Array]) -> Array:
    """Return mean scores over the rates of a codec, for all seeds and draws.

    The mean of the BD-metric: that of a monotone cubic through the points, over linear rate.

    Args:
        rates: bits per pixel, as measured of all images.
        scores: of the points, in the order of the rates, each (seeds, 1 + replicates).

    Raises:
        CurveError: fewer than four points, or two of one rate.
    """
    # Checks the points; of scores, those as measured by the first seed.
    curve = Curve.of((rate, float(each[0, 0])) for rate, each in zip(rates, scores, strict=True))
    curve.require()
    points = np.stack([scores[number] for number in np.argsort(rates)])
    # As a curve does, for slopes that can be divided.
    points[np.abs(points) < LEAST_SCORE] = 0.0
    interpolant = interpolator("pchip")(curve.rates, points, axis=0)
    means: Array = interpolant.integrate(curve.low, curve.high) / (curve.high - curve.low)
    return means


def _percent(part: Array, whole: Array) -> Array:
    # A draw without a gap has no share of it.
    there = whole > LEAST_SCORE
    return np.where(there, 100 * part / np.where(there, whole, 1.0), np.nan)
