"""Tables for people: drawn on a terminal, plain columns where output is piped."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

#: Columns of piped output, unless the environment variable COLUMNS says otherwise.
_WIDTH = 120

#: A column is never made narrower than this to fit.
_NARROW = 20

#: Words in a cell up to which it is no prose, but a name, a number or a version.
_FEW = 3


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows*; off a terminal long texts go on below, but no word is cut."""
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headers, cells)
    else:
        _write(headers, cells)


def print_text(text: str) -> None:
    """Print a paragraph."""
    print(textwrap.fill(text, _width(), break_long_words=False, break_on_hyphens=False))


def print_entry(name: str, text: str) -> None:
    """Print a line ``name: text``, or several lines of it."""
    lead = f"{name + ':':14} "
    print(
        textwrap.fill(
            text,
            _width(),
            initial_indent=lead,
            subsequent_indent=" " * len(lead),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _width() -> int:
    return shutil.get_terminal_size((_WIDTH, 24)).columns


def _draw(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # rich takes longer to import than most commands take to run.
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        # Text, because names and messages may hold what rich takes for markup.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _write(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    columns = [list(column) for column in zip(headers, *rows, strict=True)]
    widths = _fitted(columns, _width() - 2 * (len(headers) - 1))
    for row in (headers, *rows):
        wrapped = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, wrapped))):
            parts = [lines[number] if number < len(lines) else "" for lines in wrapped]
            padded = (part.ljust(width) for part, width in zip(parts, widths, strict=True))
            print("  ".join(padded).rstrip())


def _fitted(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the widths of columns: the widest are narrowed until all of them fit."""
    widths = [max(map(len, column)) for column in columns]
    least = [_least(column, width) for column, width in zip(columns, widths, strict=True)]
    while sum(widths) > room:
        able = [place for place, width in enumerate(widths) if width > least[place]]
        if not able:
            break
        widths[max(able, key=lambda place: widths[place])] -= 1
    return widths


def _least(column: Sequence[str], width: int) -> int:
    """Return the least width of a column: its own, unless it holds prose."""
    words = [cell.split() for cell in column]
    if max(map(len, words)) <= _FEW:
        return width
    return max(min(width, _NARROW), *(len(word) for each in words for word in each))


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
