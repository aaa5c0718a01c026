"""What a report computes, says and writes, from cells made up for the purpose."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from unittest.mock import ANY

import pytest

pytest.importorskip("plotly")
pytest.importorskip("scipy")

from lossylens.cells import CellResult, Note, Reported, TaskData
from lossylens_report.analysis import analyse, scaling
from lossylens_report.charts import DARK, LIGHT, family, rate_score
from lossylens_report.comparing import Source, compare
from lossylens_report.findings import findings, warnings
from lossylens_report.page import render_page
from lossylens_report.reproduction import compare_printed
from lossylens_report.run_results import SourceResults
from lossylens_report.table import to_csv, to_latex, to_markdown
from lossylens_report.tables import all_tables

NO_SAMPLES = {"sets": [], "notes": []}
RATES = {"q1": 0.1, "q5": 0.2, "q10": 0.3, "q20": 0.4}


def cell(codec, level, bpp, value, **changes):
    made = CellResult(
        vlm="nano",
        adaptor="",
        codec=codec,
        level=level,
        task="pope",
        uncompressed=codec == "uncompressed",
        metric="Overall/Overall",
        value=value,
        bpp=bpp,
        images=10,
        samples=180,
    )
    return replace(made, **changes)


REFERENCE = cell("uncompressed", "raw", 24.0, 90.0)


def curve(codec="jpeg", values=(60.0, 70.0, 80.0, 89.0), shift=0.0, **changes):
    levels = zip(RATES.items(), values, strict=True)
    return [cell(codec, level, bpp + shift, value, **changes) for (level, bpp), value in levels]


def results(*cells, name="first", identity="data", **changes):
    tasks = dict.fromkeys(each.task for each in cells)
    data = {task: TaskData(frozenset({f"{task} {identity}"}), f"words of {name}") for task in tasks}
    return replace(SourceResults(name=name, cells=cells, data=data), **changes)


def analysis_of(*sources, fidelity=None):
    return analyse(compare([Source(each) for each in sources]), fidelity)


def texts(analysis):
    return "\n".join(text for kind in warnings(analysis) for text in (kind.title, *kind.texts))


def test_bd_metric_and_shares_are_against_the_same_models_uncompressed_score():
    other = replace(REFERENCE, vlm="other", value=10.0)
    analysis = analysis_of(results(other, REFERENCE, *curve()))
    found = analysis.groups[0].curves["nano", "jpeg"]
    assert found.bd == pytest.approx(75 - 90, abs=0.3)
    assert found.kept == pytest.approx(100 * (90 + found.bd) / 90)
    assert [point.bpp is None for point in found.operating] == [False, False, True]


def test_fewer_than_four_points_have_a_reason_in_place_of_a_figure():
    analysis = analysis_of(results(REFERENCE, *curve()[:3]))
    assert analysis.groups[0].curves["nano", "jpeg"].bd == "3 points, 4 are needed"
    assert "nano, jpeg, pope: 3 points, 4 are needed." in texts(analysis)
    assert "3 points, 4 are needed" in render_page(analysis, NO_SAMPLES)


def test_without_an_uncompressed_score_there_is_no_bd_metric():
    analysis = analysis_of(results(*curve()))
    assert analysis.groups[0].curves["nano", "jpeg"].bd == "no uncompressed score"
    assert not any("95 %" in text for text in findings(analysis))


def test_codecs_are_ranked_at_equal_rate_not_over_their_own_range():
    """The better codec is run at lower rates only, so its own mean is lower."""
    worse = curve("worse", (60, 70, 80, 89))
    better = curve("better", (50, 60, 70, 80), shift=-0.09)
    better = [replace(each, bpp=each.bpp * 0.6) for each in better]
    analysis = analysis_of(results(REFERENCE, *worse, *better))
    group = analysis.groups[0]
    assert group.curves["nano", "better"].bd < group.curves["nano", "worse"].bd
    ratings = group.ratings["nano"]
    assert ratings["better"].value > 0 > ratings["worse"].value
    assert "At equal rate better scores better than worse." in "\n".join(findings(analysis))


def test_order_of_codecs_over_several_tasks_comes_first():
    def on(task, *curves):
        return [replace(each, task=task) for each in (REFERENCE, *curves)]

    better, worse = curve("better", (70, 80, 85, 90)), curve("worse")
    two = [each for task in ("a", "b") for each in on(task, *better, *worse)]
    [first, *_] = findings(analysis_of(results(*two)))
    assert first == "At equal rate better scores better than worse on 2 of 2 tasks."
    middle = curve("middle", (65, 75, 82, 89))
    three = [*on("a", *better, *middle, *worse), *on("b", *better, *middle, *worse)]
    three += on("c", *curve("middle", (75, 81, 88, 90)), *better, *worse)
    [first, *_] = findings(analysis_of(results(*three)))
    assert first == (
        "At equal rate better scores best on 2 of 3 tasks (middle on 1), and worse worst on 3."
    )


def test_finding_names_the_least_rate_that_keeps_95_percent():
    [finding] = findings(analysis_of(results(REFERENCE, *curve())))
    assert "jpeg keeps 95 % of the uncompressed score at the least rate, 0.36" in finding
    [never] = findings(analysis_of(results(REFERENCE, *curve(values=(1, 2, 3, 45)))))
    assert "no rate point keeps 95 %" in never
    assert "keeps 50.0 %" in never


def test_parts_of_one_name_that_differ_are_told():
    def part(quality, weights):
        return {"version": "1", "options": {"quality": quality}, "weights": weights}

    def made(quality, weights="w" * 64, **changes):
        parts = {
            ("codec", "jpeg", "q1"): part(quality, None),
            ("codec", "jpeg", "q5"): part(quality, None),
            ("VLM", "nano"): part(1, weights),
        }
        return results(REFERENCE, *curve(), parts=parts, **changes)

    same = analysis_of(made(1), made(1, name="second"))
    assert same.comparison.unlike == ()
    other = analysis_of(made(1), made(2, weights=None, name="second"))
    assert other.comparison.unlike == (
        "codec jpeg is not the same in first and second: options.quality (1; 2).",
        f"VLM nano is not the same in first and second: weights ({'w' * 37}...; none).",
    )
    assert other.comparison.unlike[0] in texts(other)


def test_notes_are_told_where_the_figures_are_and_among_the_warnings():
    note = Note("half of it is a guess", frozenset({"pope"}))
    analysis = analysis_of(results(REFERENCE, *curve(), notes=(note, Note("so is the rest"))))
    page = render_page(analysis, NO_SAMPLES)
    assert page.count("first: half of it is a guess") == 2
    assert page.count("first: so is the rest") == 1


def test_a_falling_curve_is_a_warning():
    assert warnings(analysis_of(results(REFERENCE, *curve()))) == []
    falling = analysis_of(results(REFERENCE, *curve(values=(60, 75, 70, 80))))
    assert "q10 (70.00) scores worse than q5 (75.00)" in texts(falling)


def test_lower_is_better_metrics_fall_without_a_warning():
    falling = curve(values=(80.0, 70.0, 60.0, 50.0), higher_is_better=False)
    base = replace(REFERENCE, value=40.0, higher_is_better=False)
    analysis = analysis_of(results(base, *falling))
    assert warnings(analysis) == []
    assert analysis.groups[0].curves["nano", "jpeg"].operating == "of this metric less is better"


def test_failures_missing_cells_and_wide_intervals_are_warnings():
    cells = curve()
    cells[0] = replace(cells[0], failed=3, interval=(40.0, 80.0))
    run = results(
        REFERENCE, *cells, unscored=("nano, jpeg q3, pope",), failures=(("decode", "cut", 3),)
    )
    text = texts(analysis_of(run))
    assert "nano, jpeg q1, pope: 3 of 180 samples failed" in text
    assert "first: 3 failures at decode: cut" in text
    assert "first: nano, jpeg q3, pope." in text
    assert "95 % interval 40.00 to 80.00" in text


def test_runs_on_the_same_data_share_a_chart_and_models_of_one_name_are_told_apart():
    one, two = results(REFERENCE, *curve()), results(REFERENCE, *curve(), name="second")
    comparison = compare([Source(one), Source(two)])
    [group] = comparison.groups
    assert group.title == "pope"
    assert set(group.origins) == {"nano (first)", "nano (second)"}
    assert comparison.apart == ()


def test_runs_on_other_data_are_shown_apart_with_the_reason():
    one, two = results(REFERENCE, *curve()), results(REFERENCE, name="second", identity="other")
    comparison = compare([Source(one), Source(two)])
    assert [group.title for group in comparison.groups] == ["pope (first)", "pope (second)"]
    [reason] = comparison.apart
    assert "different data or questions (words of first; words of second)" in reason


def test_other_metrics_are_shown_apart():
    two = results(replace(REFERENCE, metric="accuracy"), name="second")
    comparison = compare([Source(results(REFERENCE)), Source(two)])
    assert comparison.apart == ("pope: first gives Overall/Overall, second gives accuracy.",)


def test_two_runs_of_one_name_get_two_names():
    comparison = compare([Source(results(REFERENCE)), Source(results(REFERENCE))])
    assert [source.name for source in comparison.sources] == ["first", "first #2"]


def test_gap_is_of_the_adapted_model_against_the_base():
    adapted = replace(curve()[0], adaptor="cve", value=75.0)
    [found] = analysis_of(results(REFERENCE, *curve(), adapted)).groups[0].gaps
    assert found.gap.performance == pytest.approx(30)
    assert found.gap.generalisation == pytest.approx(15)
    assert found.gap.information == pytest.approx(15)


def test_drop_over_model_size():
    cells = []
    for name, size, drop in (("a-1b", 1000, 30), ("a-3b", 3000, 20), ("a-7b", 7000, 10)):
        cells.append(replace(REFERENCE, vlm=name, parameters=size, value=100))
        cells += curve(values=(100 - drop,) * 4, vlm=name, parameters=size)
    analysis = analysis_of(results(*cells))
    assert scaling(analysis.groups[0]) == {
        name: (size, pytest.approx(drop))
        for name, size, drop in (("a-1b", 1000, 30), ("a-3b", 3000, 20), ("a-7b", 7000, 10))
    }
    assert {family(model) for model in analysis.models} == {"a"}
    assert list(analysis.robustness.ranks) == ["a-7b", "a-3b", "a-1b"]


def test_fidelity_is_correlated_with_the_score():
    fidelity = {("jpeg", level, ""): {"psnr": 20 + 10 * rate} for level, rate in RATES.items()}
    found = analysis_of(results(REFERENCE, *curve()), fidelity=fidelity).correlations
    place = found.names.index("psnr")
    assert found.values[place][0] == pytest.approx(1)


def test_curve_is_sorted_by_rate_and_the_uncompressed_line_spans_it():
    analysis = analysis_of(results(REFERENCE, *reversed(curve())))
    figure = rate_score(analysis.groups[0], analysis.codecs)
    line, reference = figure["data"]
    assert line["x"] == sorted(RATES.values())
    assert reference["x"] == [0.1, 0.4]
    assert figure["layout"]["xaxis"]["type"] == "log"


def luminance(color):
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_of_curves_have_the_contrast_of_graphics():
    """WCAG 2.1, success criterion 1.4.11: 3:1 against the panel behind a chart."""
    assert min(contrast(color, "#f5f7fa") for color in LIGHT) >= 3
    assert min(contrast(color, "#1d232c") for color in DARK) >= 3


def test_colours_of_text_have_contrast_aa():
    """WCAG 2.1, success criterion 1.4.3: 4.5:1, in both themes."""
    from lossylens_report.page import part

    style = str(part("report.css"))
    light, dark = re.findall(r"(?s)\{\s*color-scheme: (?:light|dark);(.*?)\}", style)[:2]
    for theme in (light, dark):
        colors = dict(re.findall(r"--([\w-]+): (#\w{6})", theme))
        for ink in ("ink", "soft", "link", "good", "bad"):
            for paper in ("paper", "panel"):
                assert contrast(colors[ink], colors[paper]) >= 4.5, (ink, paper)
        for paper in ("warn-paper", "paper"):
            assert contrast(colors["warn"], colors[paper]) >= 4.5
        assert contrast(colors["ink"], colors["best"]) >= 4.5
        assert contrast(colors["edge"], colors["paper"]) >= 3


def test_page_holds_everything_it_needs_and_escapes_names():
    hostile = "</script><script>alert(1)</script>"
    cells = curve(hostile)
    page = render_page(
        analysis_of(results(REFERENCE, *cells, manifest={"note": hostile})), NO_SAMPLES
    )
    assert hostile not in page
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)\s*=", page)
    [embedded] = re.findall(r"^const DATA = (.*);$", page, re.MULTILINE)
    assert json.loads(embedded)["curves"][0]["figure"]["data"][0]["name"] == hostile


def test_tables_in_every_format():
    run = results(REFERENCE, *curve("j|peg_&"), *curve())
    tables = {table.name: table for table in all_tables(analysis_of(run))}
    assert {"scores", "bd-metric", "bd-metric-by-model", "operating-points"} <= set(tables)
    rows = list(csv.DictReader(io.StringIO(to_csv(tables["scores"]))))
    assert [row["score"] for row in rows][:2] == ["90.0", "60.0"]
    wide = tables["bd-metric-by-model"]
    assert "j\\|peg\\_&" in to_markdown(wide)
    latex = to_latex(wide)
    assert "j|peg\\_\\&" in latex
    assert re.search(r"nano & pope & \$-\$1\d\.\d\d & \$-\$1\d\.\d\d", latex)


def test_printed_figures_are_compared_cell_by_cell():
    adapted = replace(curve()[0], adaptor="cve", value=75.0)
    gap = ("generalisation gap", "nano + cve", "jpeg", "pope")
    printed = [
        Reported("Table 2", "bd-metric", "nano", "jpeg", "pope", -15.0, tolerance=0.3),
        Reported("Table 7", "score", "nano", "jpeg", "pope", 61.0, level="q1", tolerance=0.5),
        Reported("Table 7", "rate", "", "jpeg", "pope", 0.1, level="q1", tolerance=0.005),
        Reported("Table 3", *gap, 1.0, "a slip", level="q1", tolerance=0.01),
        Reported("Table 2", "bd-metric", "nano", "jpeg", "pope", None),
        Reported("Table 2", "bd-metric", "nano", "webp", "pope", -1.0, tolerance=1),
        Reported("Table 4", "bd-gain", "nano", "jpeg", "pope", 3.0, tolerance=1),
    ]
    run = results(REFERENCE, *curve(), adapted, reported=tuple(printed))
    analysis = analysis_of(run)
    [source] = analysis.comparison.sources
    cells = [cell for table in compare_printed(analysis, source) for cell in table.cells]
    found = {cell.printed: (cell.status, cell.reason) for cell in cells}
    assert [found[each] for each in printed] == [
        ("agrees", ""),
        ("differs", "not known"),
        ("agrees", ""),
        ("differs", "a slip"),
        ("illegible", "lost in the text of the paper"),
        ("no figure", "no scores"),
        ("no figure", "the adaptor's scores are not published"),
    ]
    tables = {table.name: table for table in all_tables(analysis)}
    rows = [row[:7] for row in tables["first-agreement"].rows]
    assert ("Table 2", "bd-metric", 3, 1, 0, 1, 1) in rows
    assert len(tables["first-printed"].rows) == 6
    assert tables["first-gains"].rows == (("Table 4", "nano", "pope", "jpeg", ANY, 3.0),)
    assert "Table 3" in render_page(analysis, NO_SAMPLES)


def test_the_performance_gap_is_told_at_the_lowest_rate():
    tables = {t.name: t for t in all_tables(analysis_of(results(REFERENCE, *curve())))}
    [row] = tables["performance-gap-at-lowest-rate"].rows
    cell = min(curve(), key=lambda each: each.bpp)
    assert row[3:] == (
        *(cell.level, cell.bpp, 90.0, cell.value),
        *(90.0 - cell.value, pytest.approx(100 * (90 - cell.value) / 90)),
    )


def test_figures_are_vector_files_and_the_same_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    from lossylens_report.figures import write_figures

    adapted = replace(curve()[0], adaptor="cve", value=75.0)
    cells = [REFERENCE, *curve(), *curve("webp", (62, 72, 82, 90)), adapted]
    cells += [replace(each, vlm=vlm) for vlm in ("one", "two") for each in cells[:-1]]
    gain = Reported("Table 4", "bd-gain", "nano", "jpeg", "pope", 3.0)
    analysis = analysis_of(results(*cells, reported=(gain,)))
    first = write_figures(analysis, tmp_path / "a", ["svg", "pdf"])
    second = write_figures(analysis, tmp_path / "b", ["svg", "pdf"])
    names = {path.name for path in first}
    assert {"rate-score-nano.svg", "rate-score-nano.pdf", "gaps.svg", "correlations.pdf"} <= names
    assert {"rate-score-linear-nano.svg", "adaptor-gains-nano.svg", "bd-radar-pope.svg"} <= names
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    # One figure of the model with and without its adaptor.
    methods = (tmp_path / "a" / "methods-nano.svg").read_text(encoding="utf-8")
    assert ">jpeg, cve<" in methods
    assert ">jpeg<" in methods
    assert not (tmp_path / "a" / "methods-one.svg").exists()
    assert b"<svg" in (tmp_path / "a" / "gaps.svg").read_bytes()[:2000]
    assert (tmp_path / "a" / "gaps.pdf").read_bytes().startswith(b"%PDF")
