"""Columns that are found by name: which headings of a table are meant, and which misspelt.

A heading is exactly the column's name.  One that differs in a way that people overlook is
refused, never ignored: without that column the table would mean something else.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossylens.errors import DataError
from lossylens.names import nearest

_MAX_SHOWN = 20


def check_headings(
    found: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    kind: str = "",
    looks_like: str = "",
) -> None:
    """Make sure that a table has the *required* columns, and no misspelt one.

    Args:
        found: headings of the table.
        required: columns that it must have.
        optional: columns that are used where it has them.
        kind: whose tables have the required columns, for the message.
        looks_like: sentence that says what else the table may be.

    Raises:
        DataError: a column is missing, or there twice; a heading differs from a column's
            name by case, blanks, hyphens or invisible characters alone.  The message has
            no place, so that callers can put theirs before it.
    """
    slips = _slips(found, (*required, *optional))
    if slips:
        listed = "; ".join(f"the heading {given!r} is to be {name!r}" for given, name in slips)
        raise DataError(f"{listed}. {_has(found)}")
    missing = [name for name in required if name not in found]
    if missing:
        of = f", which a file of {kind} has" if kind else ""
        parts = [f"no column {', '.join(map(repr, missing))}{of}.", looks_like]
        others = [name for name in found if name not in required]
        if not looks_like:
            for name in missing:
                near = nearest(name, others, limit=1)
                parts += [f"Did you mean {shortened(each)!r} for {name!r}?" for each in near]
        raise DataError(" ".join(filter(None, [*parts, _has(found)])))
    for name in (*required, *optional):
        count = list(found).count(name)
        if count > 1:
            raise DataError(f"{count} columns are called {name!r}")


def _slips(found: Sequence[str], known: Sequence[str]) -> list[tuple[str, str]]:
    """Return headings that look like a *known* column which is not there, with its name."""
    absent = {_form(name): name for name in known if name not in found}
    return [(each, absent[_form(each)]) for each in found if _form(each) in absent]


def _form(name: str) -> str:
    """Return *name* as it looks at a glance."""
    text = unicodedata.normalize("NFKC", name).casefold()
    # Z are blanks, C controls and invisible characters.
    return "".join(c for c in text if unicodedata.category(c)[0] not in "ZC" and c not in "-_")


def _has(found: Sequence[str]) -> str:
    shown = ", ".join(map(shortened, found[:_MAX_SHOWN]))
    return f"Found: {shown}{', ...' if len(found) > _MAX_SHOWN else ''}."


def shortened(text: str, limit: int = 60) -> str:
    """Return *text* in a form that fits in a line of an error message."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= limit else text[: limit - 3] + "..."


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row of a CSV table.

    Attributes:
        place: file and line, for messages.
        cells: by heading; ``""`` for those behind the end of a short row.
    """

    place: str
    cells: Mapping[str, str]

    def number(self, column: str) -> float:
        """Return the number in a cell.

        Raises:
            DataError: there is none.
        """
        text = self.cells[column]
        value = _number(text)
        if value is None:
            said = f"{text!r} is no number" if text.strip() else "empty, where a number is needed"
            raise DataError(f"{self.place}, {column}: {said}")
        return value


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A CSV table whose columns are found by name.

    Attributes:
        headings: of all columns, in order.
        rows: in order.
    """

    headings: tuple[str, ...]
    rows: tuple[CsvRow, ...]


def read_csv(
    path: Path,
    *,
    names: Sequence[str] = (),
    numbers: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> CsvTable:
    """Read a CSV table.

    Args:
        path: of the file.
        names: required columns of names.
        numbers: required columns of numbers; the cells are not read as such here.
        optional: columns of names that are used where the table has them.  Others are
            returned as well.

    Raises:
        DataError: it cannot be read or is no CSV table; see :func:`check_headings`; a row has
            more cells than the header; a quotation mark makes one row of several.
    """
    rows: list[CsvRow] = []
    line = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # Strict: a cell in quotation marks must end with one.
            reader = csv.reader(file, strict=True)
            headings = next(reader, [])
            _check_header(headings, path, (*names, *numbers), optional)
            line = reader.line_num
            for cells in reader:
                first, line = line + 1, reader.line_num
                if cells:  # not a blank line
                    place = f"{path}, line {first}"
                    _check_cells(cells, place, headings, (*names, *optional), numbers)
                    padded = [*cells, *[""] * (len(headings) - len(cells))]
                    rows.append(CsvRow(place, dict(zip(headings, padded, strict=True))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        where = f"{path}, line {line + 1}" if isinstance(error, csv.Error) else str(path)
        raise DataError(f"{where}: cannot be read as a CSV table: {reason}") from error
    return CsvTable(tuple(headings), tuple(rows))


def _check_header(
    headings: Sequence[str], path: Path, required: Sequence[str], optional: Sequence[str]
) -> None:
    if any(len(_lines(heading)) > 1 for heading in headings):
        raise DataError(f"{path}: the header has a quotation mark that goes on in the next line")
    try:
        check_headings(headings, required, optional)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _check_cells(
    cells: Sequence[str],
    place: str,
    headings: Sequence[str],
    names: Sequence[str],
    numbers: Sequence[str],
) -> None:
    if len(cells) > len(headings):
        raise DataError(f"{place}: {len(cells)} cells where the header has {len(headings)}")
    for column, (heading, cell) in enumerate(zip(headings, cells, strict=False)):
        if len(_lines(cell)) == 1:
            continue
        # Text in a column that nobody reads may have lines; a name or a number may not.
        if heading in (*names, *numbers) or _takes_rows_in(cells, column, headings, numbers):
            raise DataError(
                f"{place}, {heading}: a quotation mark takes the next line in; remove it, or close"
                " it where the cell ends"
            )


def _takes_rows_in(
    cells: Sequence[str], column: int, headings: Sequence[str], numbers: Sequence[str]
) -> bool:
    """Whether the lines of a cell, with what is beside it, are rows by themselves."""
    first, *between, last = (line.split(",") for line in _lines(cells[column]))
    rows = [[*cells[:column], *first], *between, [*last, *cells[column + 1 :]]]
    return all(
        len(row) == len(headings)
        and all(_number(row[headings.index(each)]) is not None for each in numbers)
        for row in rows
        if row != [""]  # a blank line
    )


def _lines(cell: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", cell)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
