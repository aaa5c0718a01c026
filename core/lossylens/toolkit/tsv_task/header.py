"""The header of a TSV file: which columns it has, and whether it is the right file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lossylens.errors import DataError
from lossylens.names import nearest
from lossylens.toolkit.tsv_task.known import mix_up
from lossylens.toolkit.tsv_task.place import shortened
from lossylens.toolkit.tsv_task.records import Record, RecordReader, split_cells

INDEX = "index"
IMAGE = "image"
IMAGE_PATH = "image_path"

_OTHER_FORMATS = {
    b"\x1f\x8b": "compressed with gzip",
    b"PK\x03\x04": "a zip or xlsx file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file.

    Attributes:
        names: all columns, in order.
        kept: the columns that are kept, name to position; the index is the
            first, the picture the second.
        picture: position of the column that holds or names the picture.
        inline: whether that column holds it (``image``) or names a file
            (``image_path``).
        end: where the first row starts in the file.
    """

    names: tuple[str, ...]
    kept: dict[str, int]
    picture: int
    inline: bool
    end: int


def read_header(
    stream: BinaryIO, path: Path, columns: Sequence[str], optional: Sequence[str], kind: str
) -> Header:
    """Read the header and check that the file has all *columns*.

    Raises:
        DataError: it has not, or it is empty or not UTF-8 text; the error says
            which data set the file looks like.
    """
    _refuse_other_formats(stream, path)
    record = RecordReader(stream, name=str(path)).read()
    if record is None:
        raise DataError(f"{path}: the file is empty")
    names = _names(record, path)
    inline = IMAGE in names or IMAGE_PATH not in names
    picture = IMAGE if inline else IMAGE_PATH
    _require([INDEX, picture, *columns], names, path, kind)
    wanted = [
        name for name in dict.fromkeys([INDEX, picture, *columns, *optional]) if name in names
    ]
    positions = {name: names.index(name) for name in wanted}
    return Header(names, positions, positions[picture], inline, record.end)


def _refuse_other_formats(stream: BinaryIO, path: Path) -> None:
    start = stream.read(4)
    for signature, what in _OTHER_FORMATS.items():
        if start.startswith(signature):
            raise DataError(f"{path}: the file is {what}; a TSV file in UTF-8 is needed")


def _names(record: Record, path: Path) -> tuple[str, ...]:
    try:
        return tuple(split_cells(record.whole))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the header is not UTF-8 text ({error.reason})") from error


def _require(columns: Sequence[str], names: Sequence[str], path: Path, kind: str) -> None:
    missing = [column for column in columns if column not in names]
    if missing:
        listed = ", ".join(map(repr, missing))
        message = f"{path}: no column {listed}, which a file of {kind} has. "
        raise DataError(message + _hint(missing, names, kind))
    for column in columns:
        if names.count(column) > 1:
            raise DataError(f"{path}: {names.count(column)} columns are called {column!r}")


def _hint(missing: Sequence[str], names: Sequence[str], kind: str) -> str:
    hints = []
    for column in missing:
        near = nearest(column, names, limit=1)
        if near:
            hints.append(f"Did you mean {shortened(near[0])!r} for {column!r}?")
    shown = ", ".join(map(shortened, names[:_MAX_SHOWN]))
    hints.append(f"The file has: {shown}{', ...' if len(names) > _MAX_SHOWN else ''}.")
    hints.append(mix_up(kind, names))
    return " ".join(filter(None, hints))
