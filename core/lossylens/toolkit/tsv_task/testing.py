"""For tests of tasks: cases recorded from the reference evaluator.

A case is three files in one folder: ``task-NAME.tsv.gz`` (data),
``task-NAME.predictions.json`` (a list of ``index``, ``prediction`` and ``group``)
and ``task-NAME.expected.json`` (what the evaluator made of them).
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossylens.toolkit.tsv_task.predictions import read_predictions


@dataclass(frozen=True)
class GoldenCase:
    """A recorded case.

    Attributes:
        data: the TSV file, unpacked.
        predictions_file: the file of predictions.
        predictions: its content, by index.
        groups: per index, which rule its prediction is about.
        expected: what the evaluator gave.
    """

    data: Path
    predictions_file: Path
    predictions: dict[str, str | None]
    groups: dict[str, str]
    expected: dict[str, Any]


def golden_case(folder: Path, name: str, into: Path) -> GoldenCase:
    """Return the case *name* in *folder*, its data unpacked to the folder *into*."""
    data = into / f"{name}.tsv"
    data.write_bytes(gzip.decompress((folder / f"task-{name}.tsv.gz").read_bytes()))
    predictions = folder / f"task-{name}.predictions.json"
    entries = json.loads(predictions.read_text())
    return GoldenCase(
        data=data,
        predictions_file=predictions,
        predictions=read_predictions(predictions),
        groups={str(entry["index"]): entry["group"] for entry in entries},
        expected=json.loads((folder / f"task-{name}.expected.json").read_text()),
    )


def differences(
    actual: Any, expected: Any, relative: float = 1e-12, absolute: float = 1e-9, path: str = ""
) -> list[str]:
    """Return where *actual* differs from *expected*, in names, structure or value."""
    return list(_differences(actual, expected, relative, absolute, path))


def _differences(
    actual: Any, expected: Any, relative: float, absolute: float, path: str
) -> Iterator[str]:
    if isinstance(expected, list | tuple):
        expected = dict(enumerate(expected))
        actual = dict(enumerate(actual)) if isinstance(actual, list | tuple) else actual
    if isinstance(expected, Mapping):
        names = actual.keys() if isinstance(actual, Mapping) else set()
        yield from (f"{path}/{name}: unexpected" for name in names - expected.keys())
        yield from (f"{path}/{name}: absent" for name in expected.keys() - names)
        for name in expected.keys() & names:
            here = f"{path}/{name}"
            yield from _differences(actual[name], expected[name], relative, absolute, here)
    elif not _equal(actual, expected, relative, absolute):
        yield f"{path}: {actual!r}, expected {expected!r}"


def _equal(actual: Any, expected: Any, relative: float, absolute: float) -> bool:
    if isinstance(actual, str) or isinstance(expected, str):
        return bool(actual == expected)
    return math.isclose(actual, expected, rel_tol=relative, abs_tol=absolute)
