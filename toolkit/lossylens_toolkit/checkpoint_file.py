"""A file of a checkpoint: what kind it is, whether it is whole, and the tensors in it.

What a download leaves in the place of a checkpoint (nothing, a web page, a pointer of
Git LFS, half of the file) is told apart by the first bytes, whatever the file's name.
Nothing is ever unpickled: files of torch are read with ``weights_only``, which takes
tensors and plain containers alone.

Imports neither torch nor safetensors before there is something to read.
"""

from __future__ import annotations

import functools
import json
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lossylens.errors import RequirementError

#: ``zip`` and ``pickle`` are of torch, the latter before its version 1.6.
Kind = Literal["safetensors", "zip", "pickle"]

#: A header larger than this is refused; real ones have well below a megabyte.
_HEADER_LIMIT = 100_000_000

#: Bytes that are enough to tell what a file is.
_BEGINNING = 4096
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_LFS_POINTER = b"version https://git-lfs"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")

#: What torch says of objects that it does not unpickle, not of bytes that make no sense.
_OTHER_OBJECTS = re.compile(
    "Unsupported (global|class)|unsupported GLOBAL|unrecognized function|Can only"
)


class CheckpointFileError(RequirementError):
    """A file that is no checkpoint, or not a whole one; the message begins with its path."""


@dataclass(frozen=True)
class Loaded:
    """Content of a file.

    Attributes:
        content: what was saved; a mapping from names to tensors, if it is of safetensors.
        metadata: of a file of safetensors.
    """

    content: Any
    metadata: Mapping[str, str] = field(default_factory=dict)


def kind(path: Path) -> Kind:
    """Return what *path* is by its content.

    Raises:
        CheckpointFileError: it is no checkpoint, or visibly not a whole one.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_BEGINNING)
        if _PICKLE.match(start):
            return "pickle"
        if start.startswith(b"PK\x03\x04"):
            # A zip file's directory is at its end.
            if zipfile.is_zipfile(path):
                return "zip"
            raise CheckpointFileError(f"{path} is damaged or cut off; get the file again")
        if len(start) > 8 and start[8:9] == b"{" and _length(start) <= _HEADER_LIMIT:
            safetensors_header(path)
            return "safetensors"
    except IsADirectoryError as error:
        raise CheckpointFileError(f"{path}: a folder, not a file") from error
    except zipfile.BadZipFile as error:
        raise CheckpointFileError(f"{path} is damaged or cut off; get the file again") from error
    except OSError as error:
        raise CheckpointFileError(f"{path}: cannot be read: {error.strerror}") from error
    raise CheckpointFileError(f"{path}: {_instead(start)}")


def _instead(start: bytes) -> str:
    """Return what a file that is no checkpoint is, by its beginning."""
    if not start:
        return "empty; the download has failed, get the file again"
    if start.startswith(_LFS_POINTER):
        return "a pointer of Git LFS, not the file itself; get that with git lfs pull"
    for mark in _BYTE_ORDER_MARKS:
        start = start.removeprefix(mark)
    # Every other byte of UTF-16 is zero.
    if start.lstrip(b"\0 \t\r\n\f\v").startswith(b"<"):
        return "a web page, not the file itself; the download has failed, get the file again"
    return "not a checkpoint of torch or safetensors"


def load(path: Path, *, mmap: bool = False) -> Loaded:
    """Return what a file of torch or safetensors holds, on the CPU.

    Args:
        path: of the file; what it is called does not matter.
        mmap: whether tensors stay on disk until they are used, where that is possible.

    Raises:
        CheckpointFileError: it is none, is damaged, or holds other objects than tensors
            and plain containers.
    """
    found = kind(path)
    import torch

    try:
        if found == "safetensors":
            return _load_safetensors(path)
        load_torch = functools.partial(torch.load, map_location="cpu", weights_only=True)
        # Some versions of torch go by the name.
        if found == "zip" and mmap and path.suffix != ".safetensors":
            return Loaded(load_torch(path, mmap=True))
        with path.open("rb") as file:
            return Loaded(load_torch(file))
    except pickle.UnpicklingError as error:
        cut = found == "pickle" and _is_cut(path)
        if cut or not _OTHER_OBJECTS.search(str(error)):
            raise CheckpointFileError(
                f"{path} is damaged or cut off; get the file again"
            ) from error
        raise CheckpointFileError(
            f"{path}: holds objects other than tensors, which are not loaded for safety."
            " Save its state dict alone with torch.save, where you trust it."
        ) from error
    # Of damaged bytes, torch's reader of pickles raises whatever they lead to.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CheckpointFileError(
            f"{path} is damaged or cut off, or not a checkpoint of torch or safetensors: {reason}"
        ) from error


def _is_cut(path: Path) -> bool:
    """Whether a file ends within its pickles, which may leave half of an object's name."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged strings
        try:
            # torch's have a number, a version, a description, the objects, and their data.
            for _ in range(4):
                for _opcode in pickletools.genops(file):
                    pass
        except (ValueError, IndexError):
            return not file.read(1)
    return False


def _load_safetensors(path: Path) -> Loaded:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Loaded(state, file.metadata() or {})


def safetensors_header(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries of all tensors in a file of safetensors that is whole.

    Raises:
        CheckpointFileError: it is none, or is cut off or damaged.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = _length(start)
        if length > min(_HEADER_LIMIT, size - 8):
            raise CheckpointFileError(f"{path} is no safetensors file, or is cut off")
        header = _json_object(file.read(length))
    entries = {name: each for name, each in (header or {}).items() if name != "__metadata__"}
    if header is None or not all(map(_is_entry, entries.values())):
        raise CheckpointFileError(f"{path} is no safetensors file: a broken header")
    expected = 8 + length + max((each["data_offsets"][1] for each in entries.values()), default=0)
    if size != expected:
        raise CheckpointFileError(
            f"{path} is damaged: it has {size} bytes and should have {expected}; get the file again"
        )
    return entries


def _length(start: bytes) -> int:
    """Return the length of the header that a file of safetensors begins with."""
    return int(struct.unpack("<Q", start[:8])[0]) if len(start) >= 8 else _HEADER_LIMIT + 1


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    offsets, shape = entry.get("data_offsets"), entry.get("shape")
    return all(
        isinstance(numbers, list)
        and all(isinstance(number, int) and number >= 0 for number in numbers)
        for numbers in (offsets, shape)
    ) and (isinstance(offsets, list) and len(offsets) == 2)
