"""``lossylens status``: how far a run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lossylens.store.read_models import GridCell


def status(
    run: Annotated[Path, typer.Argument(help="Run folder; it may be in use.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what of a run is done, what is failing, and what is left.

    Cells of earlier configurations in the same folder are not counted.
    """
    report = progress_of(run)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report)


def progress_of(run: Path) -> dict[str, Any]:
    """Return what ``--json`` prints: the latest start, its cells, failures by reason.

    Raises:
        StoreError: *run* is no run folder, or cannot be read.
    """
    from lossylens.store.database import Store
    from lossylens.store.read_models import (
        absences,
        failed_samples,
        failures,
        grid,
        latest_run,
        spent,
    )

    with Store(run, writable=False) as store:
        start = latest_run(store)
        failed_in = failed_samples(store)
        cells = [_cell(each, failed_in.get(each.key, 0)) for each in grid(store)]
        left_out = [each.reason for each in absences(store)]
        usage = spent(store)
        failed = [each._asdict() for each in failures(store)]
    return {
        "started": start and start.started,
        "ended": start and start.ended,
        "outcome": start and start.outcome,
        "questions": sum(each["questions"] for each in cells),
        "answered": sum(each["answered"] for each in cells),
        "failed": sum(each["failed"] for each in cells),
        "left": sum(each["questions"] - each["answered"] for each in cells),
        "usage": usage,
        "cells": cells,
        "failures": failed,
        "left_out": left_out,
    }


def _cell(cell: GridCell, failed: int) -> dict[str, Any]:
    score = cell.score
    state = "scored" if score else "begun" if cell.answered else "to do"
    if score and cell.answered < cell.questions:
        state = "scored earlier"  # by a start that asked other questions
    return {
        "vlm": cell.vlm,
        "adaptor": cell.adaptor,
        "codec": cell.codec,
        "level": cell.level,
        "task": cell.task,
        "state": state,
        "questions": cell.questions,
        "answered": cell.answered,
        "failed": failed,
        "score": score and score.value,
        "bpp": score and score.rate,
    }


def _print_report(report: dict[str, Any]) -> None:
    from lossylens.cli.terminal_tables import print_table, print_text
    from lossylens.run.progress import told_spent

    if report["started"] is None:
        print_text("This folder holds no run yet.")
        return
    state = report["outcome"] or "still at work, or killed"
    print_text(f"Started {report['started']}, ended {report['ended'] or '-'}: {state}")
    columns = ("vlm", "adaptor", "codec", "level", "task", "state")
    rows = [
        (*(each[name] for name in columns), f"{each['answered']}/{each['questions']}", _few(each))
        for each in report["cells"]
    ]
    print()
    print_table((*columns, "answered", "failed"), rows)
    scored = sum(each["state"] == "scored" for each in report["cells"])
    print()
    print_text(
        f"{scored} of {len(rows)} cells are scored; {report['answered']} of"
        f" {report['questions']} questions are answered, {report['left']} are left,"
        f" {report['failed']} failed."
    )
    if told := told_spent(report["usage"]):
        print_text(f"Answers: {told}.")
    if report["left_out"]:
        print_text(f"{len(report['left_out'])} cells do not exist; `lossylens run --dry-run`: why.")
    if report["failures"]:
        print()
        failing = ("stage", "samples", "reason")
        rows = [tuple(str(each[name]) for name in failing) for each in report["failures"]]
        print_table(failing, rows)


def _few(cell: dict[str, Any]) -> str:
    return str(cell["failed"] or "")
