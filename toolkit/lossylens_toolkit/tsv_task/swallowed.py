"""Finds rows that a quotation mark too many has made part of a cell."""

from __future__ import annotations

import re
from collections.abc import Callable

from lossylens_toolkit.tsv_task.tsv_records import Record, cells_alone

_LINE_BREAK = re.compile(rb"\r\n|\n|\r")

#: So many line breaks of a record are tried; bounds the time that a hostile one takes.
_MOST_TRIED = 200


def swallowing_cell(record: Record, is_row: Callable[[list[bytes]], bool]) -> int | None:
    """Return the column whose quoted cell holds the end of one row and more rows, else None.

    That is so if the record's text, divided at line breaks that are within quoted cells, is
    nothing but rows.

    Args:
        record: that has the right number of cells.
        is_row: whether cells, quotes included, may be those of a row.
    """
    data = record.data
    breaks = [
        (found.start(), found.end(), column)
        for column, (start, stop) in enumerate(record.cells)
        if data[start : start + 1] == b'"' and data.find(b"\t", start, stop) >= 0
        for found in _LINE_BREAK.finditer(data, start, stop)
    ]
    if not breaks:
        return None
    first = None
    position, last = record.cells[0][0], record.cells[-1][1]
    tabs = len(record.cells) - 1
    tried = counted = 0
    counted_to = position
    for stop, after, column in breaks:
        counted, counted_to = counted + data.count(b"\t", counted_to, stop), stop
        if counted < tabs:
            continue
        tried += 1
        if tried > _MOST_TRIED:
            break
        if _is_row(bytes(data[position:stop]), is_row):
            first = column if first is None else first
            position, counted = after, 0
    rest = bytes(data[position:last])
    return first if first is not None and _is_row(rest, is_row) else None


def _is_row(line: bytes, is_row: Callable[[list[bytes]], bool]) -> bool:
    return is_row(line.split(b"\t")) or is_row(cells_alone(line))
