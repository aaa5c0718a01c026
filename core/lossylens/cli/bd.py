"""``lossylens bd``: BD-metrics from rate-score points in a CSV file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossylens.cli.tables import print_table
from lossylens.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lossylens.metrics.curve import Curve, Method

_UNCOMPRESSED = "uncompressed"


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
    from lossylens.metrics.curve import METHODS

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
    from lossylens.metrics import bd as measures
    from lossylens.metrics.curve import Curve

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
    from lossylens.metrics.curve import CurveError

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
    curves: dict[Key, list[tuple[float, float]]] = {}
    references: dict[tuple[str, str], float] = {}
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        vlm, task, codec = (row.get(name) or "" for name in ("vlm", "task", "codec"))
        score = _number(row["score"], f"{where}, score")
        if codec == _UNCOMPRESSED:
            references[vlm, task] = score
            continue
        point = (_number(row["bpp"], f"{where}, bpp"), score)
        curves.setdefault((vlm, task, codec), []).append(point)
    if not curves:
        raise DataError(f"{path} has no rate-score points")
    return curves, references


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            for needed in ("bpp", "score"):
                if needed not in found:
                    raise DataError(f"{path}: no column {needed!r}; found {', '.join(found)}")
            for row in reader:
                yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV table: {error}") from error


def _number(text: str | None, where: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{where}: {text!r} is no number") from None
