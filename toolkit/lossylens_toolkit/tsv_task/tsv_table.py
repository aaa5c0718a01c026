"""Reads the reference evaluator's TSV files without loading their pictures.

The evaluator loads a file whole, with ``pandas.read_csv(sep="\\t")``.  So that
files of many gigabytes need little memory and start at once, this keeps per row
only the cells that a task needs and where its picture lies, and reads a picture
from its place in the file when it is wanted.

The rules of the files:

- ``index`` names a row, once.
- ``image`` holds a picture in base64 or, in at most 64 characters, the index of
  the row that holds it, which may be anywhere in the file.  Several pictures are a list.
- Rows with a missing ``image`` are dropped before anything else.
- A file without ``image`` names its pictures in ``image_path``.
- Texts that pandas reads as missing are missing
  (:data:`~lossylens_toolkit.tsv_task.missing.MISSING_TEXTS`).  Otherwise a cell
  is the text that stands there; columns of numbers are not converted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lossylens.errors import DataError
from lossylens.files.columns import shortened
from lossylens.files.predictions import canonical_index
from lossylens.task import ImageRef

from lossylens_toolkit.tsv_task.effective import effective_text
from lossylens_toolkit.tsv_task.index import TsvIndex, open_file
from lossylens_toolkit.tsv_task.literals import string_list
from lossylens_toolkit.tsv_task.place import Place
from lossylens_toolkit.tsv_task.tsv_header import IMAGE, IMAGE_PATH, INDEX, read_header
from lossylens_toolkit.tsv_task.tsv_images import Base64Cell, image_files, several


class TsvTable:
    """The rows of a TSV file; indexed as far as they were asked for.

    Args:
        path: of the file.
        columns: that the file must have, besides ``index`` and the pictures.
        optional: columns that are read where the file has them.
        kind: name of the data set, for error messages.
        folder: the data set's folder of pictures, for files that name them.
        films: column that names a film, for files without pictures.
        part: of the data that cells belong to; see :class:`~.dataset.Dataset`.

    Raises:
        DataError: the file cannot be read, is empty, is not UTF-8 or lacks a
            column.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str] = (),
        optional: Sequence[str] = (),
        *,
        kind: str = "this task",
        folder: str = "",
        films: str = "",
        part: Callable[[Mapping[str, str | None]], str] | None = None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.folder = folder or path.stem
        with open_file(path) as stream:
            self.header = read_header(stream, path, columns, optional, kind, films)
        self.index = TsvIndex(path, self.header, part)

    def __len__(self) -> int:
        """Return the number of rows, reading the file to its end."""
        while self.index.read_portion():
            pass
        return len(self.index)

    def __contains__(self, row_id: str) -> bool:
        """Whether a row has this index; reads on until it is found."""
        return self.index.find(row_id) is not None

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in the order of the file.

        Raises:
            DataError: a malformed row, when it is reached; no rows at all.
        """
        position = 0
        while position < len(self.index) or self.index.read_portion():
            if position < len(self.index):
                yield Row(self, position)
                position += 1
        if not position:
            raise DataError(f"{self.path}: no rows, or none with an image")

    def image(self, row: Row) -> ImageRef:
        """Return the only picture of a row; see :meth:`Row.image`."""
        if not self.header.inline:
            files = self._files(row)
            if len(files) != 1:
                raise row.error(IMAGE_PATH, several(len(files)))
            return files[0]
        holder = self._holder(row)
        return ImageRef(holder.id, self._cell(holder))

    def images(self, row: Row) -> tuple[ImageRef, ...]:
        """Return the pictures of a row; see :meth:`Row.images`."""
        if not self.header.inline:
            return self._files(row)
        holder = self._holder(row)
        count = self.index.listed(holder.position)
        if count == 1:
            return (ImageRef(holder.id, self._cell(holder)),)
        # Named as the reference evaluator names the files that it extracts.
        return tuple(
            ImageRef(f"{holder.id}_{number}", self._cell(holder, number)) for number in range(count)
        )

    def _files(self, row: Row) -> tuple[ImageRef, ...]:
        return image_files(row.text(IMAGE_PATH), self.path, self.folder, row.place(IMAGE_PATH))

    def _cell(self, holder: Row, number: int | None = None) -> Base64Cell:
        picture = self.index.picture(holder.position)
        assert picture is not None
        return Base64Cell(self.path, *picture, holder.place(IMAGE), number)

    def _holder(self, row: Row) -> Row:
        """Return the row whose cell holds the pictures of *row*."""
        if self.index.picture(row.position) is not None:
            return row
        reference = row.text(IMAGE)
        position = self.index.find(reference)
        if position is None:
            raise row.error(
                IMAGE,
                f"neither an image in base64 nor the index of a row with one: "
                f"{shortened(reference)!r}",
            )
        if self.index.picture(position) is None:
            holder = Row(self, position)
            raise row.error(IMAGE, f"refers to row {holder.id!r}, which is a reference itself")
        return Row(self, position)


class Row:
    """One row: its cells as text, and its picture.

    Attributes:
        position: among the rows with a picture, from 0.
        cells: column name to text, None for a missing value.
        id: the row's index.
    """

    __slots__ = ("_strings", "_table", "cells", "id", "position")

    def __init__(self, table: TsvTable, position: int) -> None:
        self._table = table
        self.position = position
        self.cells = table.index.cells(position)
        self.id = table.index.renamed.get(position) or canonical_index(self.cells[INDEX] or "")
        self._strings: dict[str, list[str] | None] = {}

    def get(self, column: str) -> str | None:
        """Return a cell, None if it is missing or the file has no such column."""
        return self.cells.get(column)

    def text(self, column: str) -> str:
        """Return a cell that must not be missing.

        Raises:
            DataError: it is.
        """
        cell = self.cells.get(column)
        if cell is None:
            raise self.error(column, "empty, or a word that stands for a missing value")
        return cell

    def strings(self, column: str) -> list[str] | None:
        """Return the list of strings that a cell spells, read once; None if it spells none.

        It is read out of the effective text, as the reference evaluator does.

        Raises:
            DataError: the cell is missing.
        """
        if column not in self._strings:
            self._strings[column] = string_list(effective_text(self.text(column)))
        return self._strings[column]

    def image(self) -> ImageRef:
        """Return the row's only picture; rows that share it share its key.

        Raises:
            DataError: the row refers to one that does not exist or that holds no
                picture.
        """
        return self._table.image(self)

    def images(self) -> tuple[ImageRef, ...]:
        """Return the row's pictures, of which there may be several, in the order of the list.

        Raises:
            DataError: as :meth:`image`.
        """
        return self._table.images(self)

    def place(self, column: str = "") -> Place:
        """Return the place of the row or of one of its cells, for messages."""
        number = self._table.index.numbers[self.position]
        return Place(str(self._table.path), number, self.id, column)

    def error(self, column: str, message: str) -> DataError:
        """Return an error that names the file, this row and *column*."""
        return self.place(column).error(message)
