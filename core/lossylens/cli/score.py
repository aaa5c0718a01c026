"""``lossylens score``: score predictions that were made elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lossylens.cli.files import parse_options
from lossylens.task import Score, TaskSpec


def score(
    task: Annotated[str, typer.Argument(help="Name of the task, such as pope.")],
    data: Annotated[Path, typer.Option(help="The task's data, such as POPE.tsv.")],
    predictions: Annotated[
        Path,
        typer.Option(
            help='JSON lines {"index": ..., "prediction": ...}, or one JSON list of them; '
            "null is the prediction of a sample that failed."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the task; can be repeated."),
    ] = None,
) -> None:
    """Score predictions for a task, as the task's reference evaluator does.

    Samples without a prediction are left out of the score and counted as missing.
    """
    from lossylens.plugins import load_registry
    from lossylens.toolkit.tsv_task.predictions import read_predictions

    registry = load_registry()
    spec = registry.find("task", task).spec
    predictions = predictions.absolute()  # a plugin may change the working directory
    built = registry.build_task(task, {**parse_options(option or ()), "data": str(data)})
    result = built.score(read_predictions(predictions))
    report = as_report(spec, result, built.provenance())
    typer.echo(json.dumps(report, ensure_ascii=False, indent=2) if as_json else as_text(report))


def as_report(spec: TaskSpec, result: Score, data: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``--json`` prints; a value that is not a number becomes null."""
    return {
        "task": spec.name,
        "primary": {"name": spec.primary.name, "value": _number(result.value)},
        "metrics": _number(result.metrics),
        "samples": result.samples,
        "missing": result.missing,
        "failed": result.failed,
        "unextracted": result.unextracted,
        "data": dict(data),
    }


def as_text(report: Mapping[str, Any]) -> str:
    """Return *report* for a terminal, one value a line."""
    lines = [(name, value) for name, value in _flat(report["metrics"])]
    width = max(len(name) for name, _ in lines)
    primary = report["primary"]["name"]
    text = [
        f"{name:<{width}}  {'-' if value is None else f'{value:.10g}'}"
        + (" *" if name == primary else "")
        for name, value in lines
    ]
    counts = ("samples", "missing", "failed", "unextracted")
    text.append(", ".join(f"{name} {report[name]}" for name in counts))
    return "\n".join(text)


def _flat(metrics: Any, prefix: str = "") -> Iterator[tuple[str, float | None]]:
    """Yield the values in *metrics* with their paths."""
    if isinstance(metrics, Mapping):
        for name, value in metrics.items():
            yield from _flat(value, f"{prefix}/{name}" if prefix else name)
    elif isinstance(metrics, list | tuple):
        for number, value in enumerate(metrics, 1):
            yield from _flat(value, f"{prefix}/{number}")
    else:
        yield prefix, metrics


def _number(value: Any) -> Any:
    """Return *value* as JSON can hold it."""
    if isinstance(value, Mapping):
        return {name: _number(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_number(member) for member in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
