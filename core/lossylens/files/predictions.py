"""Reads files of predictions: JSON lines, or one JSON list of the same objects.

Each object has ``"index"``, a number or text, and ``"prediction"``, text or null
for a sample that failed; other members are ignored.  A prediction that is a
number is the text that the reference evaluator's spreadsheet makes of it: 3 and
3.0 are ``"3"``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossylens.errors import DataError
from lossylens.files.columns import check_headings, shortened

_SHOWN = 5
_MEMBERS = {"index", "prediction"}
#: An index that is a number.
INTEGER = re.compile(r"\s*([+-]?)0*([0-9]+)\s*")


def read_predictions(path: Path) -> dict[str, str | None]:
    """Return the predictions in a file, by index.

    Raises:
        DataError: the file cannot be read or is malformed, with the line; two
            predictions have one index, naming the first few.
    """
    predictions: dict[str, str | None] = {}
    duplicates: list[str] = []
    for place, entry in _entries(path):
        index, prediction = _checked(entry, place)
        if index in predictions:
            duplicates.append(index)
        predictions[index] = prediction
    if duplicates:
        raise DataError(f"{path}: two predictions for index {named(duplicates)}")
    return predictions


def canonical_index(text: str) -> str:
    """Return an index in the form in which indices are compared.

    Integers are compared as numbers, as pandas reads them: ``"007"`` is ``"7"``.
    """
    if text.isascii() and text.isdigit() and text[0] != "0":
        return text
    number = INTEGER.fullmatch(text)
    if not number:
        return text
    return ("-" if number[1] == "-" and number[2] != "0" else "") + number[2]


def named(indices: list[str]) -> str:
    """Return the first few *indices* and how many more there are."""
    distinct = list(dict.fromkeys(indices))
    more = len(distinct) - _SHOWN
    listed = ", ".join(shortened(index) for index in distinct[:_SHOWN])
    return f"{listed} and {more} more" if more > 0 else listed


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each entry with its place in the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error
    name = str(path)
    if text.lstrip().startswith("["):
        for number, entry in enumerate(_parsed(text, name), 1):
            yield f"{name}: entry {number}", entry
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                place = f"{name}:{number}"
                yield place, _parsed(line, place)


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f" in line {error.lineno}" if "\n" in text else ""
        raise DataError(f"{place}: not JSON{line}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON that can be read: {error}") from error


def _checked(entry: Any, place: str) -> tuple[str, str | None]:
    if not isinstance(entry, dict):
        raise DataError(f'{place}: expected {{"index": ..., "prediction": ...}}')
    if not entry.keys() >= _MEMBERS:
        try:
            check_headings(list(entry), sorted(_MEMBERS))
        except DataError as error:
            raise DataError(
                f'{place}: expected {{"index": ..., "prediction": ...}}: {error}'
            ) from error
    index, prediction = entry["index"], entry["prediction"]
    if isinstance(index, bool) or not isinstance(index, int | str):
        raise DataError(f'{place}: "index" is neither a whole number nor text')
    if _is_number(prediction):
        whole = prediction == int(prediction)
        prediction = str(int(prediction) if whole else prediction)
    if prediction is not None and not isinstance(prediction, str):
        raise DataError(f'{place}: "prediction" is neither text nor null')
    return canonical_index(str(index)), prediction


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, float) and math.isfinite(value)
