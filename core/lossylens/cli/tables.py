"""Tables for people: drawn on a terminal, plain columns where output is piped."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows*; off a terminal nothing is cut or wrapped, for grep and awk."""
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headers, cells)
    else:
        _write(headers, cells)


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
    lines = [headers, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())
