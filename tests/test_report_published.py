"""The report of the published results, from the command line to a browser."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "lossylens"


def report(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), "report", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report with its tables."""
    cwd = tmp_path_factory.mktemp("published")
    done = report("published", "--format", "html", "--format", "csv", "--out", "out", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "out/index.html"
    return cwd / "out"


def test_tables_hold_the_published_bd_metrics(folder: Path) -> None:
    with (folder / "tables" / "bd-metric-by-model.csv").open() as file:
        rows = {(row["model"], row["task"]): row for row in csv.DictReader(file)}
    # Table 2 of the paper, first and last codec of the first row.
    assert float(rows["qwen-vl-chat", "pope"]["jpeg"]) == pytest.approx(-6.36, abs=0.01)
    assert float(rows["qwen-vl-chat", "pope"]["stablecodec"]) == pytest.approx(-2.66, abs=0.01)
    assert rows["janus-pro-7b", "gqa"]["mlicpp"] == ""
    with (folder / "tables" / "published-printed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 528 + 6 + 96
    assert sum(row["compares"] == "agrees" for row in rows) == 472 + 96


def test_comparison_is_printed_without_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    done = report("published", "--compare", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(
        line.split()[:6] == ["Table", "2", "bd-metric", "264", "233", "21"] for line in lines
    )
    # Every cell that is not reproduced, on a line of its own with its reason.
    assert sum(" differs " in line for line in lines) == 43 + 6
    assert sum(line.endswith("lost in the text of the paper") for line in lines) == 12
    assert sum(line.endswith("3 points, 4 are needed") for line in lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_doubts_are_told_where_the_figures_are(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    assert page.count("Table 3 of the paper has its two JPEG entries swapped") == 2
    gaps = page[page.index('id="gaps"') :]
    assert "Table 3 of the paper has its two JPEG entries swapped" in gaps
    assert "the published GQA files of this VLM cannot be those behind the table" in page
    assert "qwen2.5-vl-32b, hm, pope: 1 point, 4 are needed" in page


def test_unknown_sources_and_formats_are_one_line(tmp_path: Path) -> None:
    done = report("publshed", cwd=tmp_path)
    assert done.returncode == 2
    assert "neither a run folder nor published results. Did you mean published?" in done.stderr
    done = report("published", "--format", "docx", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown format 'docx': use html, csv" in done.stderr
    assert not (tmp_path / "report").exists()


@pytest.fixture(scope="module")
def page(opened: Any, folder: Path) -> Iterator[Any]:
    with opened(folder / "index.html") as page:
        yield page


CHARTS = {
    "[data-curves='0']": ".scatterlayer .trace",
    "#radar": ".polarlayer .trace",
    "#correlation": ".heatmaplayer .hm",
    "#scaling": ".scatterlayer .trace",
    "#gap": ".barlayer .trace",
}


@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_is_drawn(page: Any, chart: str) -> None:
    page.locator(chart).scroll_into_view_if_needed()
    page.wait_for_selector(f"{chart} {CHARTS[chart]}", state="attached")


def test_curves_follow_the_choice_of_models_and_axis(page: Any) -> None:
    traces = page.locator("[data-curves='0'] .scatterlayer .trace")
    page.locator("[data-curves='0']").scroll_into_view_if_needed()
    page.wait_for_selector("[data-curves='0'] .scatterlayer .trace")
    assert traces.count() == 12
    controls = page.locator("[data-controls='0']")
    controls.locator("[data-role='beside']").select_option("internvl3-8b")
    assert traces.count() == 24
    controls.locator("[data-role='log']").uncheck()
    kind = "document.querySelector(\"[data-curves='0']\").layout.xaxis.type"
    assert page.evaluate(kind) == "linear"
    page.locator("[data-points='0'] summary").click()
    assert page.locator("[data-points='0'] tbody tr").count() == 2 * 44


def test_bd_table_is_sorted_by_keyboard_and_marks_the_best(page: Any) -> None:
    table = page.locator("[data-of='bd'][data-key='0'] table").first
    assert table.locator("td.best").count() == 7
    head = table.locator("thead button", has_text="pope")
    head.focus()
    page.keyboard.press("Enter")
    assert table.locator("tbody th").first.text_content().strip() == "mlicpp"
    page.keyboard.press("Enter")
    assert table.locator("tbody th").first.text_content().strip() == "jpeg"
    page.locator("[data-filter='bd']").select_option(label="internvl3-8b")
    assert not table.is_visible()


def test_theme_button_changes_the_colours_of_page_and_charts(page: Any) -> None:
    colour = "document.querySelector(\"[data-curves='0']\").data[0].line.color"
    before = page.evaluate(colour)
    for _ in range(2):
        page.locator("#theme").click()
    assert page.locator("#theme").text_content() == "Theme: dark"
    assert page.evaluate(colour) != before
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 31)"


@pytest.mark.parametrize("width", [390, 768, 1100])
def test_theme_button_is_within_any_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    box = page.locator("#theme").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_phone_width_does_not_scroll_sideways(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    deadline = time.monotonic() + 30
    while page.evaluate("document.documentElement.scrollWidth") > 390:
        # The charts are drawn anew for the width, one after another.
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


def test_published_curves_beside_a_run_are_a_toggle(opened: Any, tmp_path: Path) -> None:
    """A run on the reference evaluator's file shares its chart with the published curves."""
    from lossylens_report.analysis import analyse
    from lossylens_report.comparing import Source, compare
    from lossylens_report.page import render_page
    from lossylens_report.run_results import SourceResults
    from lossylens_result_published.results import Published

    published = SourceResults.of(Published().load())
    cells = [
        replace(cell, value=cell.value - 1, interval=(cell.value - 2, cell.value), samples=9000)
        for cell in published.cells
        if cell.task == "pope" and cell.vlm == "internvl3-1b"
        if cell.uncompressed or cell.codec in ("jpeg", "elic")
    ]
    mine = replace(published, name="mine", cells=cells, published=False, reported=(), unscored=())
    analysis = analyse(compare([Source(mine), Source(published)]))
    assert analysis.comparison.apart == ()
    path = tmp_path / "index.html"
    path.write_text(render_page(analysis, {"sets": [], "notes": []}))
    with opened(path) as page:
        traces = page.locator("[data-curves='0'] .scatterlayer .trace")
        page.locator("[data-curves='0']").scroll_into_view_if_needed()
        page.wait_for_selector("[data-curves='0'] .scatterlayer .trace")
        # Two codecs and the uncompressed line of the run, eleven and one published.
        assert traces.count() == 3 + 12
        assert page.locator("[data-curves='0'] .errorbar").count() == 2 * 4
        page.locator("[data-controls='0'] [data-role='published']").uncheck()
        assert traces.count() == 3
