"""Names places in data files for error messages."""

from __future__ import annotations

from dataclasses import dataclass

from lossylens.errors import DataError


@dataclass(frozen=True, slots=True)
class Place:
    """A cell or a row of a data file.

    Attributes:
        file: path of the file.
        number: of the row; the first after the header is 1.
        row: the row's index, ``""`` if it is not known.
        column: name of the column, ``""`` for the whole row.
    """

    file: str
    number: int
    row: str = ""
    column: str = ""

    def error(self, message: str) -> DataError:
        """Return an error that names this place."""
        row = f"row {self.number}" + (f" (index {shortened(self.row)})" if self.row else "")
        column = f", column {self.column!r}" if self.column else ""
        return DataError(f"{self.file}: {row}{column}: {message}")


def shortened(text: str, limit: int = 60) -> str:
    """Return *text* in a form that fits in a line of an error message."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= limit else text[: limit - 3] + "..."
