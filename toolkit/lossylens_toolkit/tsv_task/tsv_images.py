"""The pictures of a TSV file: base64 cells and files named by a path.

A cell may also be the text of a list of these, ``['iVBO...', '/9j/...']``.  Base64 has
neither quotes nor commas, so that such a list needs no parser, and its size no limit.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from lossylens.errors import DataError
from lossylens.files.columns import shortened
from lossylens.task import ImageRef

from lossylens_toolkit.tsv_task.literals import string_list
from lossylens_toolkit.tsv_task.place import Place
from lossylens_toolkit.tsv_task.tsv_records import unquoted


def several(count: int) -> str:
    """Return what is wrong with a row of *count* images where a question is about one."""
    return f"{count} images; one per question is supported"


# What may stand behind the last picture of a list, and around each.
_AFTER_LIST = b"]'\" ,\r\n\t"
_AROUND_MEMBER = b"'\" \r\n\t"


def count_listed(data: bytes | bytearray, start: int, stop: int) -> int:
    """Return how many pictures a cell lists; 1 for one that is no list.

    Args:
        data: bytes of the file.
        start, stop: of the cell in them, quotes included.
    """
    start += data[start : start + 1] == b'"'
    if data[start : start + 1] != b"[":
        return 1
    while stop > start and data[stop - 1] in _AFTER_LIST:
        stop -= 1
    return data.count(b",", start, stop) + 1


def _listed(cell: bytes) -> list[bytes]:
    """Return the pictures of a list, quotes included, as many as :func:`count_listed` counts."""
    return cell[1:].rstrip(_AFTER_LIST).split(b",")


@dataclass(frozen=True, slots=True)
class Base64Cell:
    """Reads the picture in a cell, or one of several; picklable, holds no picture.

    Attributes:
        path: the TSV file.
        start: first byte of the cell in the file, quotes included.
        length: of the cell in bytes.
        place: the cell, for error messages.
        number: which one of a list, from 0; None for the only one.
    """

    path: Path
    start: int
    length: int
    place: Place
    number: int | None = None

    def __call__(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            DataError: the cell is not base64, or the TSV file is gone.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.start)
                cell = stream.read(self.length)
        except OSError as error:
            raise self.place.error(f"cannot be read: {error.strerror}") from error
        return self._decoded(unquoted(cell))

    def _decoded(self, cell: bytes) -> bytes:
        if cell.startswith(b"["):
            cell = self._member(_listed(cell)).strip(_AROUND_MEMBER)
        try:
            # In quotes, base64 may be broken into lines, as MIME does.
            picture = base64.b64decode(cell.strip().translate(None, b"\r\n"), validate=True)
        except binascii.Error as error:
            raise self._error(f"not an image in base64 ({error})") from error
        if not picture:
            raise self._error("an empty image")
        return picture

    def _member(self, members: list[bytes]) -> bytes:
        if self.number is not None:
            return members[self.number]
        if len(members) != 1:
            raise self.place.error(several(len(members)))
        return members[0]

    def _error(self, message: str) -> DataError:
        which = "" if self.number is None else f"image {self.number + 1}: "
        return self.place.error(which + message)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Reads a picture that the data name by a path; picklable.

    There may be a million of them, so it holds no path of its own.

    Attributes:
        name: the path, as the data write it.
        table: the TSV file.
        folder: in which the reference evaluator lays out the pictures of these data.
        place: the cell that names it, for error messages.
    """

    name: str
    table: Path
    folder: str
    place: Place

    @property
    def candidates(self) -> tuple[Path, ...]:
        """Where the file may lie, in order."""
        path, beside = Path(self.name), self.table.parent
        if path.is_absolute():
            return (path,)
        return (beside / path, beside / "images" / self.folder / path)

    def __call__(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            DataError: none of the candidates is a readable file.
        """
        candidates = self.candidates
        for path in candidates:
            if path.is_file():
                try:
                    return path.read_bytes()
                except OSError as error:
                    raise self.place.error(f"{path}: {error.strerror}") from error
        tried = ", ".join(map(str, candidates))
        raise self.place.error(f"no such image file; tried {tried}")


def image_files(cell: str, table: Path, folder: str, place: Place) -> tuple[ImageRef, ...]:
    """Return the file that *cell* names, or the files that it lists; each file is its own key.

    A relative path is looked up beside the TSV file and, as the reference
    evaluator lays it out, in ``images/<folder>`` beside it.

    Raises:
        DataError: a path leads out of these folders.
    """
    files = []
    for name in string_list(cell) or [cell]:
        if "\0" in name or ".." in Path(name).parts:
            raise place.error(f"{shortened(name)!r} is not the path of an image")
        files.append(ImageRef(name, ImageFile(name, table, folder, place)))
    return tuple(files)
