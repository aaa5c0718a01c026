"""``lossylens score``: score predictions that were made elsewhere."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lossylens.cli.completing import names_of
from lossylens.cli.single_files import parse_options
from lossylens.errors import ConfigError
from lossylens.options.optiondocs import option_docs
from lossylens.task import Primary, Score, TaskSpec


def score(
    task: Annotated[
        str, typer.Argument(help="Name of the task, such as pope.", autocompletion=names_of("task"))
    ],
    predictions: Annotated[
        Path,
        typer.Option(
            help='JSON lines {"index": ..., "prediction": ...}, or one JSON list of them; '
            "null is the prediction of a sample that failed."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="The task's data, such as POPE.tsv, where the task takes a file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the task; can be repeated."),
    ] = None,
) -> None:
    """Score predictions for a task, as the task's reference evaluator does.

    Samples without a prediction are left out of the score and counted as missing.
    """
    from lossylens.files.predictions import read_predictions
    from lossylens.registry.plugins import load_registry

    registry = load_registry()
    spec = registry.find("task", task).spec
    # A plugin may change the working directory.
    file = predictions.absolute()
    options = {**parse_options(option), **_data(spec, data)}
    if "data" not in options and any(
        each.name == "data" and each.required for each in option_docs(spec.options)
    ):
        raise ConfigError(f"--data must be given: task {spec.name!r} reads a file")
    built = registry.build_task(task, options)
    result = built.score(read_predictions(file))
    report = as_report(spec, result, built.provenance())
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        typer.echo(as_text(report, spec.primary))


def _data(spec: TaskSpec, data: Path | None) -> dict[str, str]:
    """Return the option that ``--data`` gives, of a task that has it."""
    if data is None:
        return {}
    known = [field.name for field in dataclasses.fields(spec.options)]
    if "data" not in known:
        options = f"its options are {', '.join(known)}" if known else "it has no options"
        raise ConfigError(f"--data: task {spec.name!r} reads no file; {options}")
    return {"data": str(data)}


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


def as_text(report: Mapping[str, Any], primary: Primary) -> str:
    """Return *report* for a terminal, one value a line, and what the star means."""
    lines = [(name, value) for name, value in _flat(report["metrics"])]
    width = max(len(name) for name, _ in lines)
    value = report["primary"]["value"]
    text = [
        f"{name:<{width}}  {'-' if number is None else f'{number:.10g}'}"
        + (" *" if name == primary.name else "")
        for name, number in lines
    ]
    counts = ("samples", "missing", "failed", "unextracted")
    text.append(", ".join(f"{name} {report[name]}" for name in counts))
    shown = "-" if value is None else f"{primary.shown(value):.2f}"
    percent = ", in percent" if primary.percent else ""
    text.append(f"* the score of the task, which runs and reports show{percent}: {shown}")
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
