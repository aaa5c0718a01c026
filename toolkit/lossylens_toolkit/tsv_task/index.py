"""Where everything lies in a TSV file: found in one pass, in portions, as asked for."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from lossylens.errors import DataError
from lossylens.files.columns import shortened
from lossylens.files.predictions import INTEGER, canonical_index

from lossylens_toolkit.tsv_task.missing import MISSING_TEXTS
from lossylens_toolkit.tsv_task.place import Place
from lossylens_toolkit.tsv_task.swallowed import swallowing_cell
from lossylens_toolkit.tsv_task.tsv_header import IMAGE, INDEX, TsvHeader
from lossylens_toolkit.tsv_task.tsv_images import count_listed
from lossylens_toolkit.tsv_task.tsv_records import Record, RecordReader, split_cells, unquoted

#: An image cell of at most so many characters names the row that has the image.
MAX_REFERENCE = 64

# A portion ends after so many bytes or rows, so that the first samples of a
# large file come at once.
_PORTION_BYTES = 16 * 2**20
_PORTION_ROWS = 4096

# A cell with more bytes than this has more than MAX_REFERENCE characters,
# however they are encoded and quoted.
_MAX_REFERENCE_BYTES = 4 * MAX_REFERENCE + 2
_PICTURE_START = re.compile(rb"[A-Za-z0-9+/=_\-\s\[\]'\",]*")
_PICTURE_START_BYTES = 48

# Stands for the place of the picture in rows that hold none.
_NO_PICTURE = -1


def open_file(path: Path) -> BinaryIO:
    """Open a data file for reading.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        return path.open("rb", buffering=2**20)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error


class TsvIndex:
    """Per row with a picture: its kept cells, and where its picture lies.

    Rows are known by their position among these.  One bytes object per row
    takes a third of the memory that its cells would take.

    Args:
        path: of the file.
        header: which the file has.
        part: of the data that cells belong to; see :class:`~.dataset.Dataset`.
    """

    def __init__(
        self,
        path: Path,
        header: TsvHeader,
        part: Callable[[Mapping[str, str | None]], str] | None = None,
    ) -> None:
        self.path = path
        self.header = header
        self._part = part
        #: By position, the indices that are preceded by their part.
        self.renamed: dict[int, str] = {}
        #: Rows without an image so far; they are no part of the data.
        self.dropped = 0
        #: Number of each row in the file, the first after the header being 1.
        self.numbers = array("q")
        self._starts = array("q")
        self._lengths = array("q")
        self._listed = array("q")
        self._kept: list[bytes] = []
        self._positions: dict[str, int] = {}
        self._rows_read = 0
        self._end = header.end
        self._complete = False

    def __len__(self) -> int:
        """Return the number of rows that were indexed so far."""
        return len(self._kept)

    def cells(self, position: int) -> dict[str, str | None]:
        """Return the kept cells of a row, None for missing ones."""
        return _named(self.header, split_cells(self._kept[position]))

    def picture(self, position: int) -> tuple[int, int] | None:
        """Return start and length of the picture cell in the file, None if there is none."""
        start = self._starts[position]
        return None if start == _NO_PICTURE else (start, self._lengths[position])

    def listed(self, position: int) -> int:
        """Return how many pictures the picture cell lists; 1 for one that is no list."""
        return self._listed[position]

    def find(self, row_id: str) -> int | None:
        """Return the position of a row, reading on until it is found."""
        while row_id not in self._positions and self.read_portion():
            pass
        return self._positions.get(row_id)

    def read_portion(self) -> bool:
        """Index some more rows; return False if the file had ended before.

        The file is opened anew for each portion, so that none stays open
        however the index is used.

        Raises:
            DataError: a malformed row.
        """
        if self._complete:
            return False
        with open_file(self.path) as stream:
            reader = RecordReader(stream, self._end, str(self.path), number=self._rows_read + 1)
            stop = self._end + _PORTION_BYTES
            for _ in range(_PORTION_ROWS):
                record = reader.read()
                if record is None:
                    self._complete = True
                    break
                self._add(record)
                if self._end >= stop:
                    break
        return True

    def _add(self, record: Record) -> None:
        """Index one record, unless it has no picture."""
        self._check_width(record)
        if record.quoted:
            self._refuse_swallowed_rows(record)
        start, stop = record.cells[self.header.picture]
        may_be_reference = stop - start <= _MAX_REFERENCE_BYTES
        kept = self._kept_bytes(record, with_picture=may_be_reference or not self.header.inline)
        cells = self._decoded(kept)
        if may_be_reference and cells[1] in MISSING_TEXTS and self.header.inline:
            self.dropped += 1
        else:
            is_picture = self.header.inline and not (
                may_be_reference and len(cells[1]) <= MAX_REFERENCE
            )
            row_id = self._checked_id(cells)
            place = self._picture_start(record) if is_picture else _NO_PICTURE
            # Only now, so that a malformed row leaves nothing behind.
            if self._part is not None and row_id != canonical_index(cells[0]):
                self.renamed[len(self._kept)] = row_id
            self._positions[row_id] = len(self._kept)
            self._kept.append(kept)
            self.numbers.append(self._rows_read + 1)
            self._starts.append(place)
            self._lengths.append(stop - start)
            self._listed.append(count_listed(record.data, start, stop) if is_picture else 1)
        self._rows_read += 1
        self._end = record.end

    def _picture_start(self, record: Record) -> int:
        """Return where the picture cell starts in the file."""
        start, stop = record.cells[self.header.picture]
        beginning = bytes(record.data[start : min(stop, start + _PICTURE_START_BYTES)])
        if not _PICTURE_START.fullmatch(beginning):
            raise self._error(IMAGE, "neither an image in base64 nor the index of a row")
        return record.offset + start - record.cells[0][0]

    def _check_width(self, record: Record) -> None:
        expected = len(self.header.names)
        if len(record.cells) != expected:
            raise self._error(
                "",
                f"{len(record.cells)} cells where the header has {expected}; "
                "the file is damaged, cut off or not separated by tabs",
            )

    def _refuse_swallowed_rows(self, record: Record) -> None:
        """Refuse a quoted cell that holds the end of a row and the beginning of another.

        A quote that opens a cell and is not meant as one takes in all up to the next
        quote.  The cells are read as the reference evaluator reads them, but the rows in
        between are lost, and the last one's answer stands beside the first one's question.
        """
        column = swallowing_cell(record, self._is_row)
        if column is not None:
            row_id = unquoted(record.raw(self.header.kept[INDEX])).decode(errors="replace")
            place = Place(str(self.path), self._rows_read + 1, row_id, self.header.names[column])
            raise place.error(
                "begins with a quotation mark that is not closed, so that the next row is taken"
                " into the cell; close it, or, where it is text, quote the cell and double the mark"
            )

    def _is_row(self, cells: list[bytes]) -> bool:
        """Whether *cells*, quotes included, may be a row of the file."""
        if len(cells) != len(self.header.names):
            return False
        index = unquoted(cells[self.header.kept[INDEX]]).decode(errors="replace")
        cell = cells[self.header.picture]
        picture = unquoted(cell[: _MAX_REFERENCE_BYTES + 1]).decode(errors="replace")
        if index in MISSING_TEXTS:
            return False
        if not self.header.inline:
            return Path(picture).suffix != ""
        if len(picture) > MAX_REFERENCE:
            return _PICTURE_START.fullmatch(cell[:_PICTURE_START_BYTES]) is not None
        # The row with the picture may lie ahead, where its index is nearly always a number.
        known = picture in MISSING_TEXTS or canonical_index(picture) in self._positions
        return known or INTEGER.fullmatch(picture) is not None

    def _kept_bytes(self, record: Record, with_picture: bool) -> bytes:
        data = record.data
        bounds = [record.cells[column] for column in self.header.kept.values()]
        if not with_picture:
            bounds[1] = (0, 0)
        return b"\t".join([data[start:stop] for start, stop in bounds])

    def _decoded(self, kept: bytes) -> list[str]:
        try:
            return split_cells(kept)
        except UnicodeDecodeError as error:
            raise self._error("", f"not UTF-8 text ({error.reason})") from error

    def _checked_id(self, cells: list[str]) -> str:
        if cells[0] in MISSING_TEXTS:
            raise self._error(INDEX, "the row has no index")
        row_id = canonical_index(cells[0])
        if row_id in self._positions and self._part is not None:
            row_id = f"{self._part(_named(self.header, cells))}_{row_id}"
        if row_id in self._positions:
            first = self.numbers[self._positions[row_id]]
            raise self._error(INDEX, f"the index {shortened(row_id)!r} is also that of row {first}")
        return row_id

    def _error(self, column: str, message: str) -> DataError:
        """Return an error about the record that is being indexed."""
        return Place(str(self.path), self._rows_read + 1, column=column).error(message)


def _named(header: TsvHeader, cells: list[str]) -> dict[str, str | None]:
    """Return kept cells by column, None for missing ones."""
    return {
        name: None if cell in MISSING_TEXTS else cell
        for name, cell in zip(header.kept, cells, strict=True)
    }
