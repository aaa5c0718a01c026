"""The header of a TSV file: which columns it has, and whether it is the right file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lossylens.errors import DataError
from lossylens.files.columns import check_headings, shortened

from lossylens_toolkit.tsv_task.known import mix_up
from lossylens_toolkit.tsv_task.tsv_records import Record, RecordReader, split_cells, unquoted

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


@dataclass(frozen=True, slots=True)
class TsvHeader:
    """The header of a file.

    Attributes:
        names: all columns, in order.
        kept: the columns that are kept, name to position; the index is the
            first, the picture the second.
        picture: position of the column that holds or names the picture, or names the film.
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
    stream: BinaryIO,
    path: Path,
    columns: Sequence[str],
    optional: Sequence[str],
    kind: str,
    films: str = "",
) -> TsvHeader:
    """Read the header and check that the file has all *columns*.

    Raises:
        DataError: it has not, or a heading is misspelt, or the file is empty or not
            UTF-8 text; the error says which data set the file looks like.
    """
    _refuse_other_formats(stream, path)
    reader = RecordReader(stream, name=str(path))
    record = reader.read()
    if record is None:
        raise DataError(f"{path}: the file is empty")
    names = _names(record, path)
    end = record.end
    inline = not films and (IMAGE in names or IMAGE_PATH not in names)
    picture = films or (IMAGE if inline else IMAGE_PATH)
    required = [INDEX, picture, *columns]
    _refuse_swallowed_rows(names, path)
    missing = not set(required) <= set(names)
    looks_like = mix_up(kind, names, _category(reader, names)) if missing else ""
    try:
        check_headings(names, required, optional, kind=kind, looks_like=looks_like)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    wanted = [
        name for name in dict.fromkeys([INDEX, picture, *columns, *optional]) if name in names
    ]
    positions = {name: names.index(name) for name in wanted}
    return TsvHeader(names, positions, positions[picture], inline, end)


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


def _refuse_swallowed_rows(names: Sequence[str], path: Path) -> None:
    for name in names:
        if "\t" in name and len(name.splitlines()) > 1:
            raise DataError(
                f"{path}: the header: the quotation mark before {shortened(name)!r} takes rows in"
            )


def _category(reader: RecordReader, names: Sequence[str]) -> str | None:
    """Return the category of the first row, None if it cannot be told."""
    try:
        record = reader.read()
        if record is None or len(record.cells) != len(names) or CATEGORY not in names:
            return None
        return unquoted(record.raw(names.index(CATEGORY))).decode()
    except (DataError, UnicodeDecodeError):
        return None
