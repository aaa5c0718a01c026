"""Names places in data files for error messages."""

from __future__ import annotations

from dataclasses import dataclass

from lossylens.errors import DataError
from lossylens.files.columns import shortened


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
