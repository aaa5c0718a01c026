"""The printed BD tables, recomputed cell by cell; every cell that does not agree is listed."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("scipy")

from lossylens.cells import CellResult, Reported, Results
from lossylens_report.analysis import analyse
from lossylens_report.comparing import Source, compare
from lossylens_report.metrics.bd import bd_metric
from lossylens_report.metrics.curve import Curve, CurveError
from lossylens_report.reproduction import Agreement, compare_printed
from lossylens_report.run_results import SourceResults
from lossylens_result_published.results import METRICS, Published

#: Largest relative difference between a printed and a recomputed cell.
TOLERANCE = 0.015

#: GQA of these VLMs: the published score files cannot be those behind the tables.
OTHER_FILES = ("internvl3-2b", "internvl3-8b", "janus-pro-1b", "janus-pro-7b")

#: Cells whose print is lost in the text of the paper; the recomputed value stands alone.
ILLEGIBLE = {
    ("qwen-vl-chat", "ocrbench"): {"hm", "elic", "hific", "msillm", "rdeic"},
    ("qwen-vl-chat", "mme"): {"jpeg"},
    ("janus-pro-7b", "pope"): {"jpeg", "hm"},
    ("janus-pro-7b", "ocrbench"): {"msillm"},
    ("internvl3-1b", "ocrbench"): {"jpeg", "vtm", "elic"},
}

#: Cells that lack a score file, with the reason that is given in place of a figure.
WITHOUT_FIGURE = {("janus-pro-7b", "gqa", "mlicpp"): "3 points, 4 are needed"}


@pytest.fixture(scope="module")
def results() -> Results:
    return Published().load()


def curves(results: Results) -> dict[tuple[str, str, str], Curve]:
    points: dict[tuple[str, str, str], list[CellResult]] = {}
    for cell in results.cells:
        if not cell.uncompressed and not cell.adaptor and cell.task != "coco-caption":
            points.setdefault((cell.vlm, cell.task, cell.codec), []).append(cell)
    return {key: Curve.of((c.bpp, c.value) for c in cells) for key, cells in points.items()}


def tables(results: Results) -> list[Reported]:
    return [each for each in results.reported if each.measure == "bd-metric"]


def test_every_printed_cell_is_reproduced_or_listed(results: Results) -> None:
    found = curves(results)
    references = {(c.vlm, c.task): c.value for c in results.cells if c.uncompressed}
    errors, wrong, refused = [], Counter(), {}
    for each in tables(results):
        place = (each.model, each.task)
        try:
            value = bd_metric(found[*place, each.codec], references[place])
        except CurveError as error:
            refused[*place, each.codec] = str(error)
            continue
        if each.value is None:
            assert each.codec in ILLEGIBLE[place]
            continue
        error = abs(value - each.value) / abs(each.value)
        if each.task == "gqa" and each.model in OTHER_FILES:
            wrong[each.model] += error > TOLERANCE
        else:
            errors.append(error)
            assert error <= TOLERANCE, f"{each}: recomputed {value:.3f}"
    assert refused == WITHOUT_FIGURE
    assert len(errors) == 472
    assert sum(error <= 0.01 for error in errors) == 467
    assert sorted(errors)[len(errors) // 2] < 0.0007
    # Nearly all cells of the doubtful files are wrong, so they are no rounding.
    assert sum(wrong.values()) >= 40


def test_doubtful_cells_say_so(results: Results) -> None:
    doubtful = {(each.model, each.task) for each in tables(results) if each.doubt}
    assert doubtful == {(vlm, "gqa") for vlm in OTHER_FILES}


def test_table_has_its_size(results: Results) -> None:
    reported = tables(results)
    assert len(reported) == 528
    lost = sum(each.value is None for each in reported)
    assert lost == sum(len(codecs) for codecs in ILLEGIBLE.values()) == 12


def test_every_cell_is_there_or_named_as_missing(results: Results) -> None:
    scored = [c for c in results.cells if not c.uncompressed and not c.adaptor]
    six = [c for c in scored if c.task != "coco-caption" and c.vlm != "gpt-4o"]
    assert len(six) + len(results.unscored) == 9 * 11 * 4 * 6
    assert sorted(results.unscored) == [
        "janus-pro-7b, mlicpp q2, gqa",
        *(f"qwen2.5-vl-32b, hm qp{qp}, pope" for qp in (40, 47, 50)),
        *(f"qwen2.5-vl-32b, vtm qp{qp}, pope" for qp in (40, 50)),
    ]


def test_gaps_are_those_of_the_score_files(results: Results) -> None:
    """The paper's Table 3 has the two JPEG scores swapped; the files settle it."""
    value = {(c.model, c.codec, c.level, c.task): c.value for c in results.cells}
    for task, total, generalisation in (("pope", 25.65, 18.84), ("seedbench", 23.89, 14.39)):
        base = value["qwen2.5-vl-3b", "jpeg", "q1", task]
        original = value["qwen2.5-vl-3b", "uncompressed", "raw", task]
        adapted = value["qwen2.5-vl-3b + fine-tuned", "jpeg", "q1", task]
        assert original - base == pytest.approx(total, abs=0.01)
        assert adapted - base == pytest.approx(generalisation, abs=0.01)


@pytest.fixture(scope="module")
def agreements(results: Results) -> list[Agreement]:
    return compare_printed(analyse(compare([Source(SourceResults.of(results))])), results)


def test_every_printed_table_is_compared_cell_by_cell(agreements: list[Agreement]) -> None:
    statuses = ("agrees", "differs", "illegible", "no figure")
    found = {
        (each.table, each.measure): tuple(map(each.count, statuses))
        for each in agreements
        if each.measure != "bd-gain"
    }
    assert found == {
        ("Table 2", "bd-metric"): (233, 21, 9, 1),
        ("Table 14", "bd-metric"): (239, 22, 3, 0),
        ("Table 3", "score"): (0, 2, 0, 0),
        ("Table 3", "performance gap"): (0, 2, 0, 0),
        ("Table 3", "generalisation gap"): (0, 2, 0, 0),
        **{(f"Table {number}", "rate"): (16, 0, 0, 0) for number in (7, 9, 10, 11, 12, 13)},
    }
    for each in agreements:
        for cell in each.cells:
            assert cell.status == "agrees" or cell.reason not in ("", "not known"), cell


def test_table_3_agrees_once_its_two_scores_are_exchanged(agreements: list[Agreement]) -> None:
    """That is the evidence for the slip: nothing else in the table is wrong."""
    scores = {
        cell.printed.task: cell
        for each in agreements
        if (each.table, each.measure) == ("Table 3", "score")
        for cell in each.cells
    }
    pope, seedbench = scores["pope"], scores["seedbench"]
    assert pope.printed.value == pytest.approx(seedbench.value, abs=0.005)
    assert seedbench.printed.value == pytest.approx(pope.value, abs=0.005)


def test_metrics_are_named_as_the_task_plugins_name_them() -> None:
    from lossylens.registry.plugins import load_registry

    known = {each.spec.name: each.spec.primary.name for each in load_registry().all("task")}
    assert {task: name for task, name in METRICS.items() if task in known} == {
        task: known[task] for task in METRICS if task in known
    }
