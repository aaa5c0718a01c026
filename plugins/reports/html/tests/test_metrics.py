"""Measures: golden values, known cases, refusals and properties."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("scipy")

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from lossylens.errors import DataError
from lossylens.run.aggregate import aggregate_of_sums
from lossylens.task import Aggregate
from lossylens_report.metrics.bd import bd_metric, bd_quality, bd_rate, shared_difference
from lossylens_report.metrics.bootstrap import interval, resampled_sums
from lossylens_report.metrics.correlation import correlate, read_fidelity
from lossylens_report.metrics.curve import LEAST_SCORE, METHODS, Curve, CurveError, falls
from lossylens_report.metrics.gap import Gap
from lossylens_report.metrics.operating import operating_point
from lossylens_report.metrics.ranking import rank
from lossylens_report.metrics.rating import shared_ratings
from lossylens_report.metrics.scaling import trend

# Values of the package bjontegaard 1.3.0 on these points.
ANCHOR = Curve((0.0412, 0.0733, 0.1254, 0.2101), (24.11, 25.62, 27.34, 29.05))
TEST = Curve((0.0387, 0.0702, 0.1148, 0.1987), (24.55, 26.21, 27.80, 29.41))
GOLDEN = {"pchip": (-20.535534, 0.691361), "akima": (-20.512893, 0.691613)}


@pytest.mark.parametrize("method", GOLDEN)
def test_bd_rate_and_quality_agree_with_the_reference_package(method):
    rate, quality = GOLDEN[method]
    assert bd_rate(ANCHOR, TEST, method) == pytest.approx(rate, abs=1e-5)
    assert bd_quality(ANCHOR, TEST, method) == pytest.approx(quality, abs=1e-5)


def test_half_the_rate_is_minus_fifty_percent():
    half = Curve(tuple(rate / 2 for rate in ANCHOR.rates), ANCHOR.scores)
    assert bd_rate(ANCHOR, half) == pytest.approx(-50)
    assert bd_rate(ANCHOR, ANCHOR) == pytest.approx(0)


def test_bd_metric_is_of_the_codecs_own_range_on_a_linear_axis():
    line = Curve.of([(0.4, 60.0), (0.1, 30.0), (0.2, 40.0), (0.3, 50.0)])
    assert bd_metric(line, 50.0) == pytest.approx(45.0 - 50.0)
    assert bd_metric(line, 50.0, "akima") == pytest.approx(-5.0)


def test_three_points_have_no_figure():
    short = Curve(ANCHOR.rates[:3], ANCHOR.scores[:3])
    for measure in (
        lambda: bd_metric(short, 30),
        lambda: bd_rate(ANCHOR, short),
        lambda: bd_quality(short, ANCHOR),
        lambda: shared_difference(short, ANCHOR),
    ):
        with pytest.raises(CurveError, match="3 points, 4 are needed"):
            measure()


def test_curves_without_overlap_are_refused_with_their_ranges():
    far = Curve(tuple(10 * rate for rate in ANCHOR.rates), ANCHOR.scores)
    for measure in (bd_quality, shared_difference):
        with pytest.raises(CurveError, match=r"do not overlap.*0\.2101 bpp"):
            measure(ANCHOR, far)
    above = Curve(ANCHOR.rates, tuple(100 + score for score in ANCHOR.scores))
    with pytest.raises(CurveError, match="scores do not overlap"):
        bd_rate(ANCHOR, above)


def test_bd_rate_refuses_a_falling_curve_and_names_the_points():
    falling = Curve(ANCHOR.rates, (24.0, 26.0, 25.0, 29.0))
    assert falls(falling) == [2]
    with pytest.raises(CurveError, match=r"0\.0733 bpp \(26\) to 0\.1254 bpp \(25\)"):
        bd_rate(ANCHOR, falling)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(0.1, 1), (0.1, 2)], "same rate"),
        ([(0.0, 1)], "not positive"),
        ([(math.nan, 1)], "not finite"),
        ([(0.1, math.inf)], "not finite"),
    ],
)
def test_points_that_are_no_curve(points, message):
    with pytest.raises(CurveError, match=message):
        Curve.of(points)


rates = st.lists(
    st.integers(1, 1000).map(lambda n: n / 500), min_size=4, max_size=8, unique=True
).map(sorted)


@st.composite
def curve_pairs(draw):
    made = []
    for _ in range(2):
        x = draw(rates)
        y = draw(st.lists(st.floats(0, 100), min_size=len(x), max_size=len(x)))
        made.append(Curve(tuple(x), tuple(y)))
    return made


TINY = (5e-324, 2.3e-308, 1e-200, 1e-60, 1e-59)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tiny", TINY)
def test_scores_that_a_float_cannot_be_divided_by_are_flat(tiny, method):
    """No warning, and figures as if they were zero."""
    curve = Curve(ANCHOR.rates, (0.0, 0.0, 0.0, tiny))
    assert bd_metric(curve, 1.0, method) == pytest.approx(-1)
    assert shared_difference(curve, curve.negated(), method).value == pytest.approx(0)
    assert operating_point(curve, 1e-60, 0.9, method).bpp is not None or tiny < 1e-60
    rising = Curve(ANCHOR.rates, (-tiny, 0.0, tiny, 1.0))
    assert bd_quality(rising, rising, method) == 0
    if tiny < LEAST_SCORE:
        with pytest.raises(CurveError, match="does not rise"):
            bd_rate(rising, rising, method)
    else:
        assert bd_rate(rising, rising, method) == pytest.approx(0)


@example([Curve((0.1, 0.2, 0.3, 0.4), (0.0, 0.0, 0.0, 5e-324))] * 2, 0.0)
@given(curve_pairs(), st.floats(-50, 50))
def test_properties_of_bd_figures(pair, shift):
    first, second = pair
    # PCHIP stays within the scores, so its mean does.
    low, high = min(first.scores), max(first.scores)
    assert low - 1e-6 <= bd_metric(first, 0.0) <= high + 1e-6
    moved = Curve(first.rates, tuple(score + shift for score in first.scores))
    assert bd_metric(moved, shift) == pytest.approx(bd_metric(first, 0.0), abs=1e-6)
    try:
        difference = shared_difference(first, second)
    except CurveError:
        return
    assert shared_difference(second, first).value == pytest.approx(-difference.value, abs=1e-9)
    assert 0 < difference.share <= 1


def test_ratings_recover_parallel_curves_that_never_all_overlap():
    """a overlaps b, b overlaps c, a and c do not; their distance is still found."""

    def line(start, offset):
        x = [start + 0.1 * step for step in range(4)]
        return Curve(tuple(x), tuple(10 * rate + offset for rate in x))

    ratings = shared_ratings({"a": line(0.1, 0), "b": line(0.25, 3), "c": line(0.5, 9)})
    assert ratings["c"].value - ratings["a"].value == pytest.approx(9)
    assert ratings["b"].value - ratings["a"].value == pytest.approx(3)
    assert sum(rating.value for rating in ratings.values()) == pytest.approx(0)
    assert (ratings["b"].wins, ratings["b"].pairs) == (1, 2)
    assert {rating.pool for rating in ratings.values()} == {0}


def test_ratings_of_unconnected_codecs_are_in_pools():
    def flat(start, score):
        return Curve(tuple(start + 0.1 * step for step in range(4)), (score,) * 4)

    curves = {"a": flat(0.1, 1), "b": flat(0.1, 2), "c": flat(5, 1), "d": flat(5, 2)}
    ratings = shared_ratings({**curves, "alone": flat(50, 1), "short": Curve((0.1,), (1.0,))})
    assert set(ratings) == set(curves)
    assert ratings["a"].pool == ratings["b"].pool != ratings["c"].pool == ratings["d"].pool


def test_operating_point_is_interpolated_and_bounded():
    curve = Curve((0.1, 0.2, 0.3, 0.4), (50.0, 60.0, 70.0, 80.0))
    point = operating_point(curve, 100.0, 0.65)
    assert point.bpp == pytest.approx(0.25)
    assert (point.bound, point.unstable) == (False, False)
    assert operating_point(curve, 100.0, 0.5).bound
    assert operating_point(curve, 100.0, 0.5).bpp == 0.1
    never = operating_point(curve, 100.0, 0.9)
    assert never.bpp is None
    assert never.best == pytest.approx(0.8)


def test_operating_point_on_a_curve_that_falls_again():
    point = operating_point(Curve((0.1, 0.2, 0.3), (50.0, 80.0, 60.0)), 100.0, 0.7)
    assert 0.1 < point.bpp < 0.2
    assert point.unstable


@pytest.mark.parametrize("reference", [0.0, -1.0, math.nan])
def test_operating_point_needs_a_positive_reference(reference):
    with pytest.raises(CurveError, match="not positive"):
        operating_point(ANCHOR, reference, 0.95)


def test_gap_is_the_sum_of_its_parts():
    gap = Gap(uncompressed=86.21, compressed=60.56, adapted=79.40)
    assert gap.performance == pytest.approx(25.65)
    assert gap.generalisation == pytest.approx(18.84)
    assert gap.information + gap.generalisation == pytest.approx(gap.performance)


def test_trend_over_model_size():
    found = trend([1000, 10_000, 100_000], [30.0, 20.0, 10.0])
    assert found.slope == pytest.approx(-10)
    assert found.rank_correlation == pytest.approx(-1)
    with pytest.raises(CurveError, match="2 sizes"):
        trend([1000, 1000, 2000], [1.0, 2.0, 3.0])
    for drops in ([1.0, 1.0, 1.0], [0.0, 0.0, 5e-324], [1.0, 1.0, math.nextafter(1, 2)]):
        with pytest.raises(CurveError, match="all alike"):
            trend([1, 2, 3], drops)


def test_ranking_leaves_out_judgements_that_lack_an_item():
    table = {
        "one": {"a": 3.0, "b": 2.0, "c": 1.0},
        "two": {"a": 30.0, "b": 10.0, "c": 10.0},
        "part": {"c": 9.0},
    }
    ranking = rank(table)
    assert list(ranking.ranks) == ["a", "b", "c"]
    assert ranking.ranks["b"] == pytest.approx((2 + 2.5) / 2)
    assert ranking.judgements == 2
    assert 0.8 < ranking.concordance < 1
    assert rank({"one": table["one"], "same": table["one"]}).concordance == pytest.approx(1)


def test_correlation_uses_rows_where_both_are_known():
    columns = {
        "psnr": [20.0, 25.0, 30.0, 35.0, 40.0],
        "score": [1.0, 2.0, 3.0, 4.0, math.nan],
        "constant": [1.0] * 5,
    }
    found = correlate(columns)
    assert found.values[0][1] == pytest.approx(1)
    assert found.pairs[0][1] == 4
    assert math.isnan(found.values[0][2])


@pytest.mark.parametrize("coefficient", ["spearman", "pearson", "kendall"])
@pytest.mark.parametrize("alike", [[0.0, 0.0, 0.0, 5e-324], [1.0, 1.0, 1.0, math.nextafter(1, 2)]])
def test_no_correlation_with_what_differs_by_rounding_alone(coefficient, alike):
    found = correlate({"rises": [1.0, 2.0, 3.0, 4.0], "alike": alike}, coefficient)
    assert math.isnan(found.values[0][1])
    assert found.values[0][0] == pytest.approx(1)


def test_fidelity_table(tmp_path):
    file = tmp_path / "fidelity.csv"
    file.write_text("codec,level,task,psnr,lpips\njpeg,q1,pope,24.5,0.4\njpeg,q3,,26,\n")
    assert read_fidelity(file) == {
        ("jpeg", "q1", "pope"): {"psnr": 24.5, "lpips": 0.4},
        ("jpeg", "q3", ""): {"psnr": 26.0},
    }
    file.write_text("codec,level,psnr\njpeg,q1,high\n")
    with pytest.raises(DataError, match="line 2, psnr: 'high' is no number"):
        read_fidelity(file)
    file.write_text("codec,psnr\njpeg,1\n")
    with pytest.raises(DataError, match="no column 'level'"):
        read_fidelity(file)


def test_bootstrap_resamples_images_not_questions():
    """Ten equal answers about each image: the interval is that of images, not of answers."""
    generator = np.random.Generator(np.random.PCG64(3))
    right = generator.random(400) < 0.7
    sums = np.stack([10.0 * right, np.full(400, 10.0)], axis=1)
    low, high = interval(aggregate_of_sums(Aggregate.MEAN, resampled_sums(sums), 100))
    expected = 1.96 * 100 * math.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.1)
    assert low < 100 * right.mean() < high


def test_bootstrap_is_the_same_each_time_and_in_pieces(monkeypatch):
    sums = np.arange(20.0).reshape(10, 2)
    whole = resampled_sums(sums, 50)
    monkeypatch.setattr("lossylens_report.metrics.bootstrap._DRAWN", 70)
    assert np.array_equal(resampled_sums(sums, 50), whole)


@pytest.mark.parametrize(
    ("aggregate", "sums", "expected"),
    [
        (Aggregate.MEAN, [[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]], [75.0, 0.0, math.nan]),
        (Aggregate.F1, [[3.0, 5.0, 4.0], [0.0, 0.0, 4.0], [0.0] * 3], [200 * 3 / 9, 0.0, 0.0]),
        (Aggregate.SUM_OF_MEANS, [[3.0, 4.0, 1.0, 2.0], [1.0, 2.0, 0.0, 0.0]], [125.0, math.nan]),
    ],
)
def test_aggregates_of_sums(aggregate, sums, expected):
    assert aggregate_of_sums(aggregate, sums, 100) == pytest.approx(expected, nan_ok=True)
    assert float(aggregate_of_sums(aggregate, sums[0], 100)) == pytest.approx(expected[0])
