"""A table, and how it is written as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Value = str | float | int | None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its file.
        title: one line.
        columns: their headings.
        rows: one value for each column; None is an empty cell, text may stand in
            place of a number that does not exist.
        note: what a reader must know.
        digits: after the point, where the table is made for reading.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    digits: int = 2


def table_of(
    name: str,
    title: str,
    rows: Iterable[Mapping[str, Value]],
    note: str = "",
    digits: int = 2,
) -> Table:
    """Return a table of *rows*, each a value for every heading; see :class:`Table`.

    Raises:
        ValueError: a row has other headings than the first.
    """
    given = list(rows)
    columns = tuple(given[0]) if given else ()
    if any(tuple(row) != columns for row in given):
        raise ValueError(f"the rows of table {name} have different headings")
    return Table(name, title, columns, tuple(tuple(row.values()) for row in given), note, digits)


def interval_cells(interval: tuple[float, float] | None) -> dict[str, Value]:
    """Return the two columns of a 95 % interval, empty for None."""
    low, high = interval or (None, None)
    return {"95 % low": low, "95 % high": high}


def finite(value: float) -> float | None:
    """Return *value*, or None for what is no number or infinite."""
    return value if math.isfinite(value) else None


def file_name(text: str) -> str:
    """Return *text* as part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "unnamed"


def as_object(table: Table) -> dict[str, Any]:
    """Return *table* for JSON: a row is an object, with null for what is no number."""
    rows = [dict(zip(table.columns, map(_jsonable, row), strict=True)) for row in table.rows]
    return {"name": table.name, "title": table.title, "note": table.note, "rows": rows}


def _jsonable(value: Value) -> Value:
    return finite(value) if isinstance(value, float) else value


def to_csv(table: Table) -> str:
    """Return *table* as CSV, numbers in full."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return stream.getvalue()


def to_json(table: Table) -> str:
    """Return the rows of *table* as a JSON list of mappings, numbers in full."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return json.dumps(rows, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_markdown(table: Table) -> str:
    """Return *table* as a Markdown pipe table."""

    def escaped(text: str) -> str:
        return re.sub(r"([\\|*_`<\[])", r"\\\1", " ".join(text.split()))

    right = numeric(table)
    lines = [f"**{escaped(table.title)}**", ""]
    lines.append(f"| {' | '.join(map(escaped, table.columns))} |")
    lines.append(f"|{'|'.join('--:' if each else '---' for each in right)}|")
    lines += [f"| {' | '.join(escaped(text) for text in row)} |" for row in shown(table)]
    return "\n".join([*lines, *(["", escaped(table.note)] if table.note else []), ""])


_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "·": r"\textperiodcentered{}",
}


def to_latex(table: Table) -> str:
    """Return *table* as a LaTeX float, for the package booktabs."""

    def escaped(text: str) -> str:
        return "".join(_LATEX.get(char, char) for char in " ".join(text.split()))

    def line(cells: Sequence[str]) -> str:
        return "    " + " & ".join(map(escaped, cells)) + r" \\"

    # A minus sign, not a hyphen, in front of a number.
    body = [
        [f"$-${text[1:]}" if re.fullmatch(r"-[\d.]+", text) else escaped(text) for text in row]
        for row in shown(table)
    ]
    columns = "".join("r" if each else "l" for each in numeric(table))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{escaped(table.title)}. {escaped(table.note)}}}",
            f"  \\label{{tab:{table.name}}}",
            f"  \\begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            line(table.columns),
            r"    \midrule",
            *("    " + " & ".join(row) + r" \\" for row in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def numeric(table: Table) -> list[bool]:
    """Return which columns hold numbers."""
    return [
        any(isinstance(row[place], int | float) for row in table.rows)
        for place in range(len(table.columns))
    ]


def shown(table: Table) -> list[list[str]]:
    """Return the rows as a reader should see them."""
    return [[_text(value, table.digits) for value in row] for row in table.rows]


def _text(value: Value, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return str(value)


#: How a table is written, by file suffix.
WRITERS: dict[str, Callable[[Table], str]] = {
    "csv": to_csv,
    "md": to_markdown,
    "tex": to_latex,
}
