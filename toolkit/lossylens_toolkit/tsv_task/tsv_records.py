"""Splits a TSV file into records and cells, as ``pandas.read_csv(sep="\\t")`` does.

Works on bytes and remembers where each cell lies, so that a cell of tens of
megabytes (an image in base64) need not be kept: it is read again from the file
when it is wanted.  At most one record is in memory.

The dialect: cells are separated by tabs, records by ``\\n``, ``\\r\\n`` or
``\\r``; a cell that starts with ``"`` extends to the closing ``"``, with ``""``
standing for one quote and separators being ordinary characters inside; a quote
anywhere else is an ordinary character; lines that hold nothing but blanks are
skipped; a byte order mark at the start of the file is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from lossylens.errors import DataError

#: Longest record accepted, in bytes.  Bounds the memory that a damaged file can
#: take; images of tens of megabytes pass.
MAX_RECORD = 128 * 2**20

# A line of at most so many bytes is copied without a second thought.
_SHORT = 2**16

_BOM = b"\xef\xbb\xbf"


# Not frozen: one is made per row, and freezing takes longer than the rest.
@dataclass(slots=True)
class Record:
    """One record of the file.

    Attributes:
        offset: position of the record's first byte in the file.
        data: bytes that hold the record, and perhaps its neighbours; valid until
            the next record is read.
        cells: start and stop of each cell in ``data``, quotes included.
        end: position of the first byte after the record in the file.
        quoted: whether a cell may be quoted.
    """

    offset: int
    data: bytes | bytearray
    cells: list[tuple[int, int]]
    end: int
    quoted: bool = False

    @property
    def whole(self) -> bytes:
        """The bytes of all cells, with the tabs between them."""
        return bytes(self.data[self.cells[0][0] : self.cells[-1][1]])

    def raw(self, column: int) -> bytes:
        """Return the bytes of a cell as they stand in the file, quotes included."""
        start, stop = self.cells[column]
        return bytes(self.data[start:stop])


def split_cells(record: bytes) -> list[str]:
    """Return the cells of one record, unquoted.

    Raises:
        UnicodeDecodeError: the record is not UTF-8.
    """
    if b'"' not in record:
        return record.decode().split("\t")
    cells = []
    start = 0
    while start <= len(record):
        stop = record.find(b"\t", _after_quotes(record, start))
        stop = stop if stop >= 0 else len(record)
        cells.append(unquoted(record[start:stop]).decode())
        start = stop + 1
    return cells


def unquoted(cell: bytes) -> bytes:
    """Return the content of a cell, without its quotes.

    Text after a closing quote belongs to the cell, as in pandas.
    """
    if not cell.startswith(b'"'):
        return cell
    closing = _closing_quote(cell, 1)
    closing = closing if closing >= 0 else len(cell)
    return cell[1:closing].replace(b'""', b'"') + cell[closing + 1 :]


def _after_quotes(record: bytes, start: int) -> int:
    """Return from where the separator of the cell at *start* is to be looked for."""
    return _closing_quote(record, start + 1) + 1 if record[start : start + 1] == b'"' else start


def _closing_quote(data: bytes | bytearray, position: int) -> int:
    """Return where the quote that ends a quoted cell stands, or -1."""
    while (quote := data.find(b'"', position)) >= 0:
        if data[quote + 1 : quote + 2] != b'"':
            return quote
        position = quote + 2
    return -1


def cells_alone(line: bytes) -> list[bytes]:
    """Return the cells of *line*, quotes included, taken as one whole record.

    A quote that no quote before a tab or the end closes is an ordinary character: what is
    asked is how somebody meant the line who did not know the quote's meaning.
    """
    cells = []
    start = 0
    while start <= len(line):
        stop = line.find(b"\t", start)
        if line[start : start + 1] == b'"':
            closing = _closing_quote(line, start + 1)
            if closing >= 0 and line[closing + 1 : closing + 2] in (b"", b"\t"):
                stop = closing + 1 if closing + 1 < len(line) else -1
        stop = stop if stop >= 0 else len(line)
        cells.append(line[start:stop])
        start = stop + 1
    return cells


class RecordReader:
    """Reads records from a binary stream, one at a time.

    Args:
        stream: an open binary file.
        offset: where to start; 0, or the ``end`` of an earlier record.
        name: of the file, for error messages.
        limit: longest record accepted, in bytes.
        number: of the first record that is read, 0 for the header; for error messages.
    """

    def __init__(
        self,
        stream: BinaryIO,
        offset: int = 0,
        name: str = "",
        limit: int = MAX_RECORD,
        number: int = 0,
    ) -> None:
        self._stream = stream
        self._name = name
        self._limit = limit
        self._number = number
        self._data: bytes | bytearray = b""
        self._data_offset = offset
        self._position = 0
        stream.seek(offset)
        if offset == 0 and stream.read(len(_BOM)) == _BOM:
            self._data_offset = len(_BOM)
        else:
            stream.seek(offset)

    def read(self) -> Record | None:
        """Return the next record, or None at the end of the file.

        Raises:
            DataError: a quoted cell is not closed, or a record is too long.
        """
        while True:
            if self._position >= len(self._data) and not self._next_line():
                return None
            record = self._plain_record() or self._record()
            if record is not None:
                self._number += 1
                return record

    def _next_line(self) -> bool:
        self._data_offset += len(self._data)
        self._data = self._line()
        self._position = 0
        return bool(self._data)

    def _line(self) -> bytes:
        line = self._stream.readline(self._limit + 1)
        if len(line) > self._limit:
            raise self._too_long()
        return line

    def _where(self) -> str:
        return f"{self._name}: {f'row {self._number}' if self._number else 'the header'}"

    def _too_long(self) -> DataError:
        return DataError(
            f"{self._where()}: the record at byte {self._data_offset} is longer than "
            f"{self._limit} bytes; the file is damaged or not a TSV file"
        )

    def _plain_record(self) -> Record | None:
        """Return the line as a record if it needs no care; the usual case, and fast."""
        data = self._data
        stop = len(data)
        if data[stop - 1 : stop] == b"\n":
            stop -= 1
            if data[stop - 1 : stop] == b"\r":
                stop -= 1
        if self._position or data.find(b'"') >= 0 or data.find(b"\r", 0, stop) >= 0:
            return None
        cells = _between_tabs(data, stop)
        if _is_blank(data, cells):
            return None
        self._position = len(data)
        return Record(self._data_offset, data, cells, self._data_offset + len(data))

    def _record(self) -> Record | None:
        """Return the record at the current position, None for a blank line."""
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        offset = self._data_offset + self._position
        cells = []
        start = self._position
        while True:
            stop = self._cell_stop(start)
            cells.append((start, stop))
            start = stop + 1
            if self._data[stop:start] != b"\t":
                break
        if self._data[stop:start] == b"\r" and self._data[start : start + 1] == b"\n":
            start += 1
        self._position = min(start, len(self._data))
        if _is_blank(self._data, cells):
            return None
        return Record(offset, self._data, cells, self._data_offset + self._position, quoted=True)

    def _cell_stop(self, start: int) -> int:
        """Return where the cell that starts at *start* ends."""
        search_from = start
        if self._data[start : start + 1] == b'"':
            search_from = self._closed(start) + 1
        stop = len(self._data)
        for separator in (b"\t", b"\n", b"\r"):
            found = self._data.find(separator, search_from, stop)
            stop = found if found >= 0 else stop
        return stop

    def _closed(self, start: int) -> int:
        """Return where the quoted cell at *start* closes, reading on as needed."""
        position = start + 1
        while (closing := _closing_quote(self._data, position)) < 0:
            position = len(self._data)
            line = self._line()
            if not line:
                raise DataError(
                    f"{self._where()}: the quote opened at byte {self._data_offset + start} is not "
                    "closed; the file is damaged or cut off"
                )
            if len(self._data) + len(line) > self._limit:
                raise self._too_long()
            assert isinstance(self._data, bytearray)
            self._data += line
        return closing


def _between_tabs(data: bytes | bytearray, stop: int) -> list[tuple[int, int]]:
    """Return the bounds of the cells up to *stop*, none of them quoted."""
    cells = []
    start = 0
    if stop <= _SHORT:
        # Copying the cells is faster than looking for each tab.
        for cell in data[:stop].split(b"\t"):
            end = start + len(cell)
            cells.append((start, end))
            start = end + 1
        return cells
    while (tab := data.find(b"\t", start, stop)) >= 0:
        cells.append((start, tab))
        start = tab + 1
    cells.append((start, stop))
    return cells


def _is_blank(data: bytes | bytearray, cells: list[tuple[int, int]]) -> bool:
    """Whether a record is a line of nothing but blanks, which pandas skips."""
    start, stop = cells[0]
    return len(cells) == 1 and not data[start:stop].strip(b" ")
