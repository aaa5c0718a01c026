"""Where a row of RefCOCO has its box: in the first of several columns that holds one."""

from __future__ import annotations

import math

from lossylens_toolkit.tsv_task import Row, TsvTable, text_or_missing
from lossylens_toolkit.written_boxes import four_numbers

from lossylens_task_refcoco.reading import Corners, guessed, scaled

#: Columns of the four sides, in pixels; those named first count first.
SIDES = (("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), ("x1", "y1", "x2", "y2"))

#: Columns that hold a box as text.
TEXTS = ("answer", "bbox")

#: All of a column at most this are fractions.
_FRACTIONS = 1.5


class Truths:
    """The true boxes of a file.

    Args:
        table: the file.
    """

    def __init__(self, table: TsvTable) -> None:
        names = set(table.header.names)
        self._sides = [sides for sides in SIDES if names.issuperset(sides)]
        self._texts = [name for name in TEXTS if name in names]
        # With sides in columns of their own, the evaluator looks at the text last.
        self._answers_first = SIDES[0] not in self._sides and "answer" in names
        self._table = table
        self._fractions: bool | None = None
        self._found: dict[int, Corners | None] = {}

    @property
    def known(self) -> bool:
        """Whether the file has a column that may hold boxes."""
        return bool(self._sides or self._texts)

    def box(self, row: Row) -> Corners | None:
        """Return the box of *row* in pixels, None if no column holds one."""
        if row.position not in self._found:
            self._found[row.position] = self._read(row)
        return self._found[row.position]

    def _read(self, row: Row) -> Corners | None:
        if self._answers_first:
            numbers = four_numbers(text_or_missing(row.get("answer")))
            if numbers is not None:
                return scaled(numbers, *size(row)) if self._in_fractions() else numbers
        for columns in self._sides:
            sides = [_number(row.get(name)) for name in columns]
            if not any(map(math.isnan, sides)):
                return sides[0], sides[1], sides[2], sides[3]
        for name in self._texts:
            numbers = four_numbers(text_or_missing(row.get(name)))
            if numbers is not None:
                return guessed(numbers, *size(row))
        return None

    def _in_fractions(self) -> bool:
        """Whether the answers of all rows are, which only all of them together tell."""
        if self._fractions is None:
            boxes = (four_numbers(text_or_missing(row.get("answer"))) for row in self._table)
            self._fractions = all(
                abs(side) <= _FRACTIONS for box in boxes if box is not None for side in box
            )
        return self._fractions


def size(row: Row) -> tuple[float, float]:
    """Return width and height of the picture as the row says, 1 where it does not."""
    width, height = (_number(row.get(name)) for name in ("width", "height"))
    return (width if width > 0 else 1.0), (height if height > 0 else 1.0)


def _number(cell: str | None) -> float:
    """Return the number in *cell*, not a number where it is none."""
    try:
        return float(cell or "nan")
    except ValueError:
        return math.nan
