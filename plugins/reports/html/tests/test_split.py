"""The gap split: its parts, its bounds, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lossylens_report.metrics.bd import bd_metric
from lossylens_report.metrics.bootstrap import resampled_sums
from lossylens_report.metrics.curve import Curve, CurveError
from lossylens_report.metrics.split import (
    LEAST_SEEDS,
    Way,
    chooses,
    estimate,
    mean_over_rates,
    recovered,
    split,
)

REPLICATES = 50


def scores(seeds: int):
    shape = (seeds, 1 + REPLICATES)
    return arrays(np.float64, shape, elements=st.floats(0, 100, allow_nan=False))


def constant(*values: float):
    return np.repeat(np.array(values)[:, None], 1 + REPLICATES, axis=1)


def way(*values: float, choosing: float = 0.0, clean: float | None = None) -> Way:
    return Way(choosing, constant(*values), None if clean is None else constant(clean))


@given(scores(1), scores(1), scores(4))
def test_the_parts_add_up_and_nothing_is_clipped(clean, compressed, adapted):
    found = split(clean, compressed, {"one": Way(0.0, adapted, None)})
    whole = found.information.value + found.generalisation.value
    assert whole == pytest.approx(found.performance.value, abs=1e-9)
    assert found.performance.value == pytest.approx(clean[0, 0] - compressed[0, 0])
    assert found.generalisation.seeds == pytest.approx(adapted[:, 0] - compressed[0, 0])
    assert found.recovered is None or found.performance.low > 0


@given(st.integers(1, 6).flatmap(scores))
def test_an_interval_lies_within_what_was_drawn(values):
    found = estimate(values)
    assert found.low <= found.high
    assert values[:, 1:].min() - 1e-9 <= found.low
    assert found.high <= values[:, 1:].max() + 1e-9
    assert found.value == pytest.approx(values[:, 0].mean())


def test_seeds_are_drawn_from_three_on():
    apart = [estimate(constant(*range(count))) for count in range(1, LEAST_SEEDS + 1)]
    assert [each.low == each.high for each in apart] == [True, True, False]
    three = apart[-1]
    assert (three.value, three.seeds) == (1.0, (0.0, 1.0, 2.0))
    assert (three.low, three.high) == (0.0, 2.0) or three.low > 0


def test_negative_gaps_are_printed_as_they_are():
    found = split(constant(60), constant(62), {"worse": way(61)})
    assert found.performance.value == -2
    assert found.generalisation.value == -1
    assert found.information.value == -1
    assert found.recovered is None


def test_the_best_is_chosen_by_other_images_than_those_reported():
    ways = {
        "lucky": way(90, choosing=50, clean=70),
        "chosen": way(65, choosing=51, clean=71),
        "as good": way(95, choosing=51),
    }
    found = split(constant(72), constant(60), ways, one=ways["lucky"], control=way(61, clean=72.5))
    assert found.tuned == "chosen"
    assert found.generalisation.value == 5
    assert found.recovered is not None
    assert found.recovered.value == pytest.approx(100 * 5 / 12)
    assert found.one is not None
    assert (found.one[0].value, found.one[1].value) == (90, 30)
    assert found.clean is not None
    assert found.clean.value == -1
    assert found.control is not None
    assert found.control.value == 1
    assert found.control_clean is not None
    assert found.control_clean.value == pytest.approx(0.5)


def test_differences_are_paired():
    """A gain that every image has has no uncertainty, however much the images differ."""
    random = np.random.default_rng(0)
    hits = random.integers(0, 20, 30).astype(float)
    sums = np.stack([hits, hits + 2, np.full(30, 25.0)], axis=1)
    drawn = np.vstack([sums.sum(axis=0), resampled_sums(sums, REPLICATES)])
    plain, adapted = (100 * drawn[None, :, place] / drawn[None, :, 2] for place in (0, 1))
    found = split(constant(100), plain, {"tuned": Way(0, adapted, None)})
    assert found.compressed.high - found.compressed.low > 5
    assert found.generalisation.low == pytest.approx(8)
    assert found.generalisation.high == pytest.approx(8)


@given(st.lists(st.text(), min_size=1, max_size=20), st.floats(0.05, 0.95))
def test_a_larger_share_chooses_by_more(names, share):
    for name in names:
        assert not chooses(name, 0.0)
        assert chooses(name, 1.0)
        assert chooses(name, share) <= chooses(name, min(1.0, share + 0.05))


def test_about_the_share_of_images_chooses():
    chosen = sum(chooses(f"{number:064x}", 0.3) for number in range(2000))
    assert 540 < chosen < 660


@given(st.permutations([0.1, 0.25, 0.5, 2.0]), st.lists(scores(2), min_size=4, max_size=4))
def test_a_mean_over_rates_is_that_of_the_bd_metric(rates, points):
    found = mean_over_rates(rates, points)
    assert found.shape == (2, 1 + REPLICATES)
    for seed, number in ((0, 0), (1, 7)):
        values = [float(each[seed, number]) for each in points]
        expected = bd_metric(Curve.of(zip(rates, values, strict=True)), 0.0)
        assert found[seed, number] == pytest.approx(expected, abs=1e-6)


def test_no_mean_over_few_rates():
    with pytest.raises(CurveError, match="3 points, 4 are needed"):
        mean_over_rates([1, 2, 3], [constant(1)] * 3)


def test_a_share_needs_a_clear_whole():
    assert recovered(constant(1), constant(0)) is None
    found = recovered(constant(1, 3), constant(8))
    assert found is not None
    assert (found.value, found.seeds) == (25, (12.5, 37.5))
