"""What a report says about a run's cells."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

pytest.importorskip("plotly")

from lossylens.report.charts import rate_score_figure
from lossylens.report.page import render_page
from lossylens.report.results import CellResult, RunResults, findings, share_kept, warnings


def cell(codec: str, level: str, bpp: float, value: float, **changes: object) -> CellResult:
    made = CellResult(
        model="nano",
        codec=codec,
        level=level,
        task="pope",
        uncompressed=codec == "uncompressed",
        metric="Overall/Overall",
        value=value,
        higher_is_better=True,
        bpp=bpp,
        bpp_total=bpp,
        images=10,
        samples=180,
        failed=0,
        missing=0,
        unextracted=0,
        metrics={"Overall": {"Overall": value}},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


REFERENCE = cell("uncompressed", "lossless", 24.0, 90.0)
LOW, MIDDLE, HIGH = (
    cell("jpeg", "q1", 0.2, 60.0),
    cell("jpeg", "q5", 0.4, 87.0),
    cell("jpeg", "q10", 0.6, 89.0),
)


def run_of(*cells: CellResult, **changes: object) -> RunResults:
    made = RunResults("first", cells, (), (), (("pope", "JPEG q75 4:2:0", 10),), {"seed": 7})
    return replace(made, **changes)  # type: ignore[arg-type]


def test_share_kept_is_of_the_uncompressed_score_of_the_same_model() -> None:
    other = replace(REFERENCE, model="other", value=10.0)
    assert share_kept(MIDDLE, [other, REFERENCE, MIDDLE]) == pytest.approx(87 / 90)
    assert share_kept(MIDDLE, [other, MIDDLE]) is None


def test_finding_names_the_lowest_rate_that_keeps_95_percent() -> None:
    [finding] = findings(run_of(REFERENCE, LOW, HIGH, MIDDLE))
    assert "jpeg q5 keeps at least 95 %" in finding
    assert "0.400 bpp" in finding


def test_finding_says_when_no_rate_point_keeps_95_percent() -> None:
    [finding] = findings(run_of(REFERENCE, LOW))
    assert "no rate point keeps 95 %" in finding
    assert "66.7 %" in finding


def test_nothing_is_found_without_an_uncompressed_score() -> None:
    assert findings(run_of(LOW, HIGH)) == []


def test_a_falling_curve_is_a_warning() -> None:
    worse = replace(HIGH, value=80.0)
    assert warnings(run_of(REFERENCE, LOW, MIDDLE, HIGH)) == []
    [warning] = warnings(run_of(REFERENCE, LOW, worse, MIDDLE))
    assert "q10 (80.00) scores worse than q5 (87.00)" in warning


def test_lower_is_better_metrics_fall_without_a_warning() -> None:
    points = [replace(each, higher_is_better=False) for each in (LOW, replace(MIDDLE, value=50.0))]
    assert warnings(run_of(*points)) == []


def test_failures_and_unscored_cells_are_warnings() -> None:
    failed = replace(LOW, failed=3)
    run = run_of(failed, unscored=("nano, jpeg q3, pope",), failures=(("decode", "truncated", 3),))
    text = "\n".join(warnings(run))
    assert "3 of 180 samples failed" in text
    assert "3 failures at decode: truncated" in text
    assert "No score for nano, jpeg q3, pope." in text


def test_curve_is_sorted_by_rate_and_reference_spans_it() -> None:
    figure = rate_score_figure([REFERENCE, HIGH, LOW, MIDDLE])
    curve, reference = figure["data"]
    assert curve["x"] == [0.2, 0.4, 0.6]
    assert curve["y"] == [60.0, 87.0, 89.0]
    assert reference["x"] == [0.2, 0.6]
    assert figure["layout"]["xaxis"]["type"] == "log"


def test_page_holds_everything_it_needs_and_escapes_names() -> None:
    hostile = "</script><script>alert(1)</script>"
    page = render_page(run_of(replace(LOW, codec=hostile), REFERENCE, manifest={"note": hostile}))
    assert hostile not in page
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)\s*=", page)
    [embedded] = re.findall(r"^const figures = (.*);$", page, re.MULTILINE)
    assert json.loads(embedded)["pope"]["data"][0]["name"] == hostile
