"""``lossylens bd``: BD-metrics from rate-score points in a CSV file."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from lossylens.cli.terminal_tables import print_table
from lossylens.errors import ConfigError, DataError
from lossylens.files.columns import CsvRow, read_csv
from lossylens.names import canonical

if TYPE_CHECKING:
    from lossylens_report.metrics.curve import Curve, Method

_UNCOMPRESSED = "uncompressed"
_KEYS = ("vlm", "task", "codec")


def bd(
    file: Annotated[
        Path,
        typer.Option(
            "--csv",
            help="Columns bpp and score, and where there are several curves codec, vlm and"
            " task. A row of codec uncompressed holds the uncompressed score.",
        ),
    ],
    uncompressed: Annotated[
        float | None, typer.Option(help="Uncompressed score, where the file has none.")
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(help="Codec to compare with: adds figures at equal rate and score."),
    ] = None,
    method: Annotated[str, typer.Option(help="Interpolant: pchip or akima.")] = "pchip",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Print the BD-metric of every curve in a CSV file.

    It is the mean score over the codec's own rates (linear axis) minus the
    uncompressed score.  With --anchor, each codec is also compared with that one over the
    rates that both cover: mean difference, BD-rate and BD-quality (log axis).
    """
    from lossylens_report.metrics.curve import METHODS

    if method not in METHODS:
        raise ConfigError(f"--method {method}: use {' or '.join(METHODS)}")
    curves, references = _read(file)
    if anchor is not None and not any(key[2] == anchor for key in curves):
        raise ConfigError(f"--anchor {anchor}: {file} has no such codec")
    rows = [
        {"vlm": vlm, "task": task, "codec": codec}
        | _figures(
            _Case(points, references.get((vlm, task), uncompressed)),
            _Case(curves[vlm, task, anchor], None)
            if anchor not in (None, codec) and (vlm, task, anchor) in curves
            else None,
            method,
        )
        for (vlm, task, codec), points in curves.items()
    ]
    print(json.dumps(rows, indent=2)) if as_json else _print(rows)


@dataclass(frozen=True)
class _Case:
    points: list[tuple[float, float]]
    reference: float | None


def _figures(case: _Case, anchor: _Case | None, method: Method) -> dict[str, Any]:
    """Return the figures of one curve; text in place of a number says why there is none."""
    from lossylens_report.metrics import bd as measures
    from lossylens_report.metrics.curve import Curve

    def curve(of: _Case) -> Curve:
        return Curve.of(of.points).require()

    reference = math.nan if case.reference is None else case.reference
    own = _value(lambda: measures.bd_metric(curve(case), reference, method))
    figures: dict[str, Any] = {"points": len(case.points), "bd_metric": own}
    if anchor is None:
        return figures
    other = anchor
    return figures | {
        "difference": _value(
            lambda: measures.shared_difference(curve(case), curve(other), method).value
        ),
        "bd_rate": _value(lambda: measures.bd_rate(curve(other), curve(case), method)),
        "bd_quality": _value(lambda: measures.bd_quality(curve(other), curve(case), method)),
    }


def _value(measure: Callable[[], float]) -> float | str:
    from lossylens_report.metrics.curve import CurveError

    try:
        return measure()
    except CurveError as error:
        return str(error)


_HEADERS = {
    "vlm": "VLM",
    "task": "task",
    "codec": "codec",
    "points": "points",
    "bd_metric": "BD-metric",
    "difference": "difference",
    "bd_rate": "BD-rate, %",
    "bd_quality": "BD-quality",
}


def _print(rows: list[dict[str, Any]]) -> None:
    columns = [name for name in _HEADERS if any(row.get(name) not in (None, "") for row in rows)]
    cells = [[_text(row.get(name, "")) for name in columns] for row in rows]
    print_table([_HEADERS[name] for name in columns], cells)


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


Key = tuple[str, str, str]


def _read(path: Path) -> tuple[dict[Key, list[tuple[float, float]]], dict[tuple[str, str], float]]:
    """Return points by VLM, task and codec, and uncompressed scores by VLM and task."""
    table = read_csv(path, numbers=("bpp", "score"), optional=_KEYS)
    unused = [name for name in table.headings if name not in ("bpp", "score", *_KEYS)]
    curves: dict[Key, list[CsvRow]] = {}
    references: dict[tuple[str, str], float] = {}
    for row in table.rows:
        vlm, task, codec = (row.cells.get(name, "").strip() for name in _KEYS)
        for name in unused:
            if canonical(row.cells[name]) == _UNCOMPRESSED:
                raise DataError(
                    f"{row.place}: {_UNCOMPRESSED!r} in the column {name!r}, which is not used;"
                    " the heading of codecs is to be 'codec'"
                )
        if canonical(codec) == _UNCOMPRESSED:
            score = row.number("score")
            if references.setdefault((vlm, task), score) != score:
                raise DataError(
                    f"{row.place}: another uncompressed score was given before{_unused(unused)}"
                )
        else:
            curves.setdefault((vlm, task, codec), []).append(row)
    if not curves:
        raise DataError(f"{path} has no rate-score points")
    points = {
        key: [(row.number("bpp"), row.number("score")) for row in rows]
        for key, rows in curves.items()
    }
    for key, rows in curves.items():
        _check_one_curve(path, key, [rate for rate, _ in points[key]], rows, unused)
    return points, references


def _check_one_curve(
    path: Path, key: Key, rates: list[float], rows: list[CsvRow], unused: list[str]
) -> None:
    """Refuse rows that a column which is not used divides into several curves.

    Rates in disorder may still be one curve, so that it takes a column with values that
    come again; where either is missing, what is not used is said.
    """
    steps = {(late > early) - (late < early) for early, late in pairwise(rates)}
    in_order = steps <= {1} or steps <= {-1}
    columns = {name: [row.cells[name].strip() for row in rows] for name in unused}
    columns = {name: cells for name, cells in columns.items() if all(cells)}
    texts = [name for name, cells in columns.items() if len(set(cells)) > 1 and _is_text(cells)]
    dividing = [name for name, cells in columns.items() if 1 < len(set(cells)) < len(cells)]
    what = " ".join(filter(None, key)) or "the table"
    if dividing and not in_order:
        raise DataError(
            f"{path}: the rates of {what} are not those of one curve{_unused(dividing)};"
            f" curves are told apart by the columns {', '.join(_KEYS)}"
        )
    if texts and (not in_order or set(texts) & set(dividing)):
        print(f"lossylens: {path}: {what} is taken as one curve{_unused(texts)}", file=sys.stderr)


def _is_text(cells: list[str]) -> bool:
    try:
        [float(cell) for cell in cells if cell]
    except ValueError:
        return True
    return False


def _unused(columns: list[str]) -> str:
    if not columns:
        return ""
    one = len(columns) == 1
    named = ", ".join(map(repr, columns))
    return f", and the column {named} is not used" if one else f", and {named} are not used"
