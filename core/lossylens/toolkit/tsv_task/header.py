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
from lossylens.toolkit.tsv_task.records import Record, RecordReader, split_cells, unquoted

INDEX = "index"
IMAGE = "image"
IMAGE_PATH = "image_path"
CATEGORY = "category"

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
    reader = RecordReader(stream, name=str(path))
    record = reader.read()
    if record is None:
        raise DataError(f"{path}: the file is empty")
    names = _names(record, path)
    end = record.end
    inline = IMAGE in names or IMAGE_PATH not in names
    picture = IMAGE if inline else IMAGE_PATH
    required = [INDEX, picture, *columns]
    if not set(required) <= set(names):
        mixed_up = mix_up(kind, names, _category(reader, names))
        raise DataError(f"{path}: {_missing(required, names, kind, mixed_up)}")
    for column in required:
        if names.count(column) > 1:
            raise DataError(f"{path}: {names.count(column)} columns are called {column!r}")
    wanted = [
        name for name in dict.fromkeys([INDEX, picture, *columns, *optional]) if name in names
    ]
    positions = {name: names.index(name) for name in wanted}
    return Header(names, positions, positions[picture], inline, end)


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


def _category(reader: RecordReader, names: Sequence[str]) -> str | None:
    """Return the category of the first row, None if it cannot be told."""
    try:
        record = reader.read()
        if record is None or len(record.cells) != len(names) or CATEGORY not in names:
            return None
        return unquoted(record.raw(names.index(CATEGORY))).decode()
    except (DataError, UnicodeDecodeError):
        return None


def _missing(required: Sequence[str], names: Sequence[str], kind: str, mixed_up: str) -> str:
    """Return which columns are missing, and which may be misspelt or what the file may be."""
    missing = [column for column in required if column not in names]
    parts = [f"no column {', '.join(map(repr, missing))}, which a file of {kind} has.", mixed_up]
    others = [name for name in names if name not in required]
    if not mixed_up:
        for column in missing:
            near = nearest(column, others, limit=1)
            parts += [f"Did you mean {shortened(each)!r} for {column!r}?" for each in near]
    shown = ", ".join(map(shortened, names[:_MAX_SHOWN]))
    parts.append(f"The file has: {shown}{', ...' if len(names) > _MAX_SHOWN else ''}.")
    return " ".join(filter(None, parts))
