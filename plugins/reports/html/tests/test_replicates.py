"""The bootstrap over a run: what is drawn, with which rates, and what has no interval."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from lossylens.cells import CellResult
from lossylens.codec import bits_per_pixel
from lossylens.run.aggregate import aggregate_of_sums
from lossylens.run.collect import Asked
from lossylens.run.driver import run
from lossylens.store.database import Store
from lossylens.store.read_models import grid
from lossylens.store.records import Cell, Part, Picture, StoredSample
from lossylens.task import ImageRef, Primary, Resampling, Sample, Score
from lossylens.vlm import Question, QuestionKind
from lossylens_report.analysis import _bd_interval
from lossylens_report.metrics.bd import bd_metric
from lossylens_report.metrics.bootstrap import BD_REPLICATES, interval, resampled_sums
from lossylens_report.metrics.curve import Curve
from lossylens_report.reading import read_run
from lossylens_report.replicates import Replicates, replicate

TASK = Part("task", {"name": "t"})
VLM = Part("vlm", {"name": "v"})
CODEC = Part("codec", {"name": "c"})
CELL = Cell("v", "none", "c", "q", "t", VLM.key, CODEC.key, TASK.key)

#: Sizes of the bitstreams of pictures of 8 by 8 pixels.
SIZES = {"one": 8, "two": 16, "three": 32, "example": 999}


def reading_of(config):
    run(config, lambda line: None)
    return read_run(config.run.out)


def test_intervals_of_plain_means_are_as_they_were(make_config):
    """Recorded before scores carried their sums, when verdicts were summed over images."""
    reading = reading_of(make_config())
    cells = reading.results.cells
    assert {cell.level: cell.interval for cell in cells} == {
        "raw": pytest.approx((37.5, 75.0)),
        "b64": pytest.approx((45.83333333333333, 87.5)),
        "b16": pytest.approx((41.5625, 62.5)),
    }
    rates = {cell.level: reading.replicates[cell.key].rates for cell in cells}
    assert rates["raw"] is None
    assert rates["b64"][:3] == pytest.approx([8.58715385, 8.59472466, 8.56356209])
    assert rates["b16"][:3] == pytest.approx([13.82470545, 13.82437865, 13.86870915])


def test_clusters_of_the_task_are_drawn(make_config, monkeypatch):
    monkeypatch.setenv("SAMPLE_CLUSTER", "pair {pair}")
    reading = reading_of(make_config())
    [judged] = reading.verdicts.values()
    for cell in reading.results.cells:
        hits = judged.verdicts[cell.key].reshape(3, 8).sum(axis=1)
        drawn = resampled_sums(np.stack([hits, np.full(3, 8.0)], axis=1))
        expected = 100 * drawn[:, 0] / drawn[:, 1]
        assert reading.replicates[cell.key].scores == pytest.approx(expected)
        assert cell.interval == pytest.approx(interval(expected))


def test_a_score_without_resampling_has_no_interval_and_that_is_said(make_config, monkeypatch):
    monkeypatch.setenv("SAMPLE_SCORE", "Score({'right': 1.0}, 1.0)")
    results = reading_of(make_config()).results
    assert [cell.interval for cell in results.cells] == [None] * 3
    [note] = results.notes
    assert note.text.startswith(
        "patches: 3 of 3 scores have no confidence interval, since the task"
    )


def stored(folder, groups, samples, encoded=tuple(SIZES)):
    """Keep a score that is the sum of the means of *groups*; return its replicates."""
    drawn = Resampling.sum_of_means(groups)
    value = sum(sum(group.values()) / len(group) for group in groups)
    with Store(folder, writable=True) as store:
        store.set_grid([CODEC, VLM, TASK], [CELL])
        store.add_pictures([Picture(name, 9, 8, 8) for name in SIZES])
        store.set_samples(TASK.key, samples)
        for name in encoded:
            store.add_encoding(CODEC.key, name, bytes(SIZES[name]), None)
        sums = drawn.sums(store.clusters(TASK.key))
        score = Score({"m": value}, value, resampling=drawn)
        store.set_score(CELL.key, "a", score, (3, 1.0, 1.0), sums=sums)
        result = CellResult(
            "v",
            "",
            "c",
            "q",
            "t",
            uncompressed=False,
            metric="m",
            value=value,
            bpp=1.0,
            key=CELL.key,
        )
        return replicate(store, grid(store), [result], {"t": Primary("m", 0, 2)})


def sample(name, *images, cluster=""):
    """Return a sample about pictures after an example."""
    shown = (("example", True), *((image, False) for image in images))
    return StoredSample(name, shown, json.dumps({"text": name}), "{}", cluster or name)


def test_an_image_of_several_clusters_counts_once_in_equal_parts(tmp_path):
    samples = [sample("a", "one", "two"), sample("b", "two", "two"), sample("c", "three", "one")]
    found = stored(tmp_path, [{"a": 1.0, "b": 0.0, "c": 1.0}], samples)[CELL.key]
    bpp = {name: bits_per_pixel(size, 8, 8) for name, size in SIZES.items()}
    sums = [
        [1.0, 1.0, (bpp["one"] + bpp["two"]) / 2, 1.0],
        [0.0, 1.0, bpp["two"] / 2, 0.5],
        [1.0, 1.0, bpp["three"] + bpp["one"] / 2, 1.5],
    ]
    drawn = resampled_sums(np.array(sums))
    assert found.rates == pytest.approx(drawn[:, 2] / drawn[:, 3])
    assert found.scores == pytest.approx(drawn[:, 0] / drawn[:, 1])
    # Of all clusters it is the mean over the three images.
    assert sum(each[2] for each in sums) / sum(each[3] for each in sums) == (1 + 2 + 4) / 3


def test_the_rate_of_a_codec_that_is_not_measured_is_nominal(tmp_path):
    samples = [sample("a", "one"), sample("b", "two")]
    found = stored(tmp_path, [{"a": 1.0, "b": 0.0}], samples, encoded=())[CELL.key]
    assert set(found.rates) == {1.0}  # as the cell's result says


def test_a_sum_does_not_grow_with_the_clusters_that_are_drawn():
    """Nine right answers in one cluster, one wrong in another: a sum is at most ten."""
    earned = {**dict.fromkeys(map(str, range(9)), 1.0), "9": 0.0, "not counted": None}
    drawn = Resampling.sum(earned)
    sums = drawn.sums({name: "small" if name == "9" else "large" for name in earned})
    assert sums == {"large": (9.0, 9.0), "small": (0.0, 1.0)}
    scores = aggregate_of_sums(drawn.aggregate, [[9.0, 10.0], [18.0, 18.0]], drawn.factor)
    assert scores == pytest.approx([9.0, 10.0])


def test_pictures_that_cannot_be_read_are_clusters_of_their_own():
    images = [ImageRef(key, bytes) for key in ("1", "2")]
    one, other = (Sample(image.key, (image,), Question(QuestionKind.OPEN, "?")) for image in images)
    assert Asked(one, ("f00d",)).cluster == "f00d"
    assert Asked(one, (None,), "gone").cluster != Asked(other, (None,), "gone").cluster
    assert Asked(replace(one, cluster="own"), (None,), "gone").cluster == "own"


def test_draws_without_one_of_the_groups_do_not_count(tmp_path):
    samples = [sample(str(number), "one") for number in range(6)]
    credit = {str(number): float(number % 2) for number in range(6)}
    few, many = {"0": 1.0}, dict(list(credit.items())[1:])
    found = stored(tmp_path, [few, many], samples)[CELL.key]
    share = np.isfinite(found.scores).mean()
    assert share == pytest.approx(1 - (5 / 6) ** 6, abs=0.05)
    low, high = interval(found.scores)
    assert 1 <= low < 1 + 0.6 < high <= 2


def test_there_is_no_interval_of_draws_that_hardly_ever_have_a_score(tmp_path):
    samples = [sample(str(number), "one") for number in range(6)]
    groups = [{str(number): 0.25} for number in range(6)]
    assert stored(tmp_path, groups, samples) == {}


def test_there_is_nothing_to_draw_in_one_cluster(tmp_path):
    samples = [sample("a", "one", cluster="all"), sample("b", "two", cluster="all")]
    assert stored(tmp_path, [{"a": 1.0, "b": 0.0}], samples) == {}


@pytest.mark.parametrize("without", [(), (0, 3, 4)])
def test_bd_intervals_leave_out_draws_without_a_score(without):
    generator = np.random.Generator(np.random.PCG64(5))
    draws = BD_REPLICATES + 3
    noise = generator.normal(0, 1, draws)
    noise[list(without)] = np.nan
    levels = [
        CellResult(
            *("v", "", "c", f"q{level}", "t"),
            uncompressed=False,
            metric="m",
            value=50.0 + level,
            bpp=level,
            key=str(level),
        )
        for level in (1, 2, 3, 4)
    ]
    base = replace(levels[0], uncompressed=True, value=60.0, key="base")
    replicates = {
        each.key: Replicates(each.value + noise, np.full(draws, each.bpp)) for each in levels
    }
    # Points and reference move together, so that the difference moves by the reference alone.
    replicates["base"] = Replicates(base.value + 3 * noise, None)
    found = _bd_interval(SimpleNamespace(replicates=replicates), levels, base)
    counted = noise[np.isfinite(noise)][:BD_REPLICATES]
    curves = [[(each.bpp, each.value + shift) for each in levels] for shift in counted]
    values = [
        bd_metric(Curve.of(curve), 60.0 + 3 * shift)
        for curve, shift in zip(curves, counted, strict=True)
    ]
    assert len(values) == BD_REPLICATES
    assert found == pytest.approx(interval(np.array(values)))
