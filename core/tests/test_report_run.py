"""What a report reads out of a run folder: scores, intervals, identities, samples."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("plotly")
pytest.importorskip("scipy")

from lossylens.errors import StoreError
from lossylens.report import write_report
from lossylens.report.cells import CellResult
from lossylens.report.comparing import Source, compare
from lossylens.report.reading import read_run
from lossylens.report.samples import Budget, browse, choose
from lossylens.report.verdicts import TaskVerdicts, _statistic
from lossylens.run import run


@pytest.fixture
def finished(make_config):
    def make(*overrides):
        config = make_config(*overrides)
        run(config, lambda line: None)
        return config.run.out

    return make


def verdicts(**changes):
    """Return four questions on two images: verdicts 1, 0, 1, 1 of the cell ``key``."""
    fields = {
        "samples": ("a", "b", "c", "d"),
        "images": ("one", "two"),
        "image": np.array([0, 0, 1, 1]),
        "is_yes": None,
        "splits": np.ones(4),
        "verdicts": {"key": np.array([1, 0, 1, 1], dtype=np.float32)},
        "said_yes": {},
    }
    return TaskVerdicts(**(fields | changes))


def cell(value, **changes):
    fields = {"vlm": "v", "adaptor": "", "codec": "jpeg", "level": "q1", "task": "t"}
    more = {"uncompressed": False, "metric": "m", "bpp": 0.1, "key": "key"}
    return CellResult(**(fields | more | {"value": value} | changes))


@pytest.mark.parametrize("value", [0.75, 75.0, 3.0])
def test_share_percent_and_sum_of_verdicts_can_be_resampled(value):
    sums, function = _statistic(cell(value), verdicts())
    assert sums.tolist() == [[1, 2], [2, 2]]
    assert function(sums.sum(axis=0)) == pytest.approx(value)


def test_f1_can_be_resampled_with_questions_of_several_splits():
    judged = verdicts(
        is_yes=np.array([True, True, False, True]),
        splits=np.array([1.0, 3.0, 1.0, 1.0]),
        said_yes={"key": np.array([True, False, False, True])},
    )
    # 2 true positives, 2 said yes, 5 are yes.
    sums, function = _statistic(cell(100 * 2 * 2 / 7), judged)
    assert function(sums.sum(axis=0)) == pytest.approx(400 / 7)


def test_another_metric_has_no_interval():
    assert _statistic(cell(41.0), verdicts()) is None


def test_scores_of_a_run_have_intervals_and_rates(finished):
    reading = read_run(finished())
    compressed = [each for each in reading.results.cells if not each.uncompressed]
    assert {each.level for each in compressed} == {"b64", "b16"}
    for each in compressed:
        low, high = each.interval
        assert low <= each.value <= high
        rates = reading.replicates[each.key].rates
        assert rates.mean() == pytest.approx(each.bpp, rel=0.05)
    [data] = reading.results.data.values()
    assert "24 questions on 6 images" in data.words


def test_runs_are_comparable_if_data_and_questions_agree(finished, tmp_path):
    one = read_run(finished(f"run.out={tmp_path / 'one'}"))
    same = read_run(finished(f"run.out={tmp_path / 'same'}", "codecs.blocky.levels=[b16]"))
    less = read_run(finished(f"run.out={tmp_path / 'less'}", "run.limit=3"))
    found = compare([Source(each.results) for each in (one, same, less)])
    assert [group.title for group in found.groups] == ["patches (one, same)", "patches (less)"]
    assert len(found.apart) == 1


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="is no run folder"):
        write_report(tmp_path)


def test_browser_shows_pictures_answers_and_flips(finished):
    content = browse([read_run(finished())])
    [item, *_] = content["items"]
    assert {each["level"] for each in item["cells"]} == {"raw", "b64", "b16"}
    picture = content["pictures"][f"run {item['image']} blocky b16"]
    assert picture["src"].startswith("data:image/webp;base64,")
    assert picture["bpp"] > 0
    assert content["pictures"][f"run {item['image']} original"]["src"].startswith("data:")


def test_browser_says_what_the_budget_left_out(finished):
    content = browse([read_run(finished())], Budget(size=1))
    reasons = [each["why"] for each in content["pictures"].values() if "why" in each]
    assert len(reasons) == len(content["pictures"]) - 1
    assert "are in this file already" in reasons[0]


def test_browser_says_why_a_picture_cannot_be_decoded(finished):
    folder = finished()
    for path in (folder / "bitstreams").glob("*/*"):
        path.write_bytes(b"damaged")
    content = browse([read_run(folder)])
    assert {"the stored bitstream is damaged"} == {
        each["why"] for each in content["pictures"].values() if "why" in each
    }


def test_images_with_flips_come_first_and_some_without():
    count = 40
    base = np.ones(count, dtype=np.float32)
    after = base.copy()
    after[30:] = 0
    judged = verdicts(
        samples=tuple(map(str, range(count))),
        images=tuple(map(str, range(count))),
        image=np.arange(count),
        verdicts={"base": base, "key": after},
    )
    cells = [cell(1.0, key="base", codec="uncompressed", uncompressed=True), cell(0.5)]
    places, flipped = choose(judged, cells, 8)
    assert flipped == 10
    assert places == [30, 31, 32, 33, 34, 35, 0, 1]
