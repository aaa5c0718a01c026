"""The pictures of a TSV file: base64 cells and files named by a path."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from lossylens.files.columns import shortened

from lossylens_toolkit.tsv_task.literals import string_list
from lossylens_toolkit.tsv_task.place import Place
from lossylens_toolkit.tsv_task.tsv_records import unquoted


@dataclass(frozen=True, slots=True)
class Base64Cell:
    """Reads the picture in a cell; picklable, holds no picture.

    Attributes:
        path: the TSV file.
        start: first byte of the cell in the file, quotes included.
        length: of the cell in bytes.
        place: the cell, for error messages.
    """

    path: Path
    start: int
    length: int
    place: Place

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
            cell = self._only_member(cell)
        try:
            # In quotes, base64 may be broken into lines, as MIME does.
            picture = base64.b64decode(cell.strip().translate(None, b"\r\n"), validate=True)
        except binascii.Error as error:
            raise self.place.error(f"not an image in base64 ({error})") from error
        if not picture:
            raise self.place.error("an empty image")
        return picture

    def _only_member(self, cell: bytes) -> bytes:
        members = _members(cell)
        if len(members) != 1:
            raise self.place.error(f"{len(members)} images; one per question is supported")
        return members[0]


def _members(cell: bytes) -> list[bytes]:
    """Return the texts in a cell that lists several images.

    Base64 has neither quotes nor commas, so that the list needs no parser, and
    its size no limit.
    """
    inside = cell.strip().removeprefix(b"[").removesuffix(b"]")
    return [member.strip(b" '\"\r\n\t") for member in inside.split(b",") if member.strip()]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Reads a picture that the data name by a path; picklable.

    Attributes:
        candidates: where the file may lie, in order.
        place: the cell that names it, for error messages.
    """

    candidates: tuple[Path, ...]
    place: Place

    def __call__(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            DataError: none of the candidates is a readable file.
        """
        for path in self.candidates:
            if path.is_file():
                try:
                    return path.read_bytes()
                except OSError as error:
                    raise self.place.error(f"{path}: {error.strerror}") from error
        tried = ", ".join(map(str, self.candidates))
        raise self.place.error(f"no such image file; tried {tried}")


def image_file(cell: str, table: Path, folder: str, place: Place) -> ImageFile:
    """Return the reader of the file that *cell* names.

    A relative path is looked up beside the TSV file and, as the reference
    evaluator lays it out, in ``images/<folder>`` beside it.

    Raises:
        DataError: the cell lists several files, or leads out of these folders.
    """
    members = string_list(cell) or [cell]
    if len(members) != 1:
        raise place.error(f"{len(members)} images; one per question is supported")
    path = Path(members[0])
    if "\0" in members[0] or ".." in path.parts:
        raise place.error(f"{shortened(members[0])!r} is not the path of an image")
    if path.is_absolute():
        return ImageFile((path,), place)
    return ImageFile((table.parent / path, table.parent / "images" / folder / path), place)
