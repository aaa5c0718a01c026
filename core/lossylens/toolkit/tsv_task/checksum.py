"""Checksums of data files, computed once and remembered.

A file is taken for the same as long as its path, size and modification time
are.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lossylens.toolkit.cache import cache_folder
from lossylens.toolkit.tsv_task.index import open_file

_BLOCK = 4 * 2**20
_MEMORY_FILE = "checksums.json"
_MAX_REMEMBERED = 1000

# A file changed so recently may change again within the resolution of the clock
# of its file system, with the same size.
_SETTLED_NS = 2 * 10**9


@dataclass(frozen=True, slots=True)
class Checksum:
    """Checksums of a file, in hexadecimal digits."""

    sha256: str
    md5: str


def file_checksum(path: Path) -> Checksum:
    """Return the checksums of a file, from memory if they are remembered.

    Raises:
        DataError: the file cannot be read.
    """
    with open_file(path) as stream:
        status = os.fstat(stream.fileno())
        key = [status.st_size, status.st_mtime_ns]
        name = str(path.resolve())
        known = _recall(name, key)
        if known is not None:
            return known
        checksum = _computed(stream)
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
        _remember(name, key, checksum)
    return checksum


def _computed(stream: BinaryIO) -> Checksum:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    # Hashing a large block leaves the interpreter to the other thread.
    with ThreadPoolExecutor(1) as other:
        while block := stream.read(_BLOCK):
            beside = other.submit(md5.update, block)
            sha256.update(block)
            beside.result()
    return Checksum(sha256.hexdigest(), md5.hexdigest())


def _recall(name: str, key: list[int]) -> Checksum | None:
    entry = _memory().get(name)
    if isinstance(entry, dict) and entry.get("key") == key:
        sha256, md5 = entry.get("sha256"), entry.get("md5")
        if isinstance(sha256, str) and isinstance(md5, str):
            return Checksum(sha256, md5)
    return None


def _memory() -> dict[str, Any]:
    try:
        memory = json.loads((cache_folder() / _MEMORY_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(name: str, key: list[int], checksum: Checksum) -> None:
    """Add to the memory; a folder that cannot be written to is no error."""
    memory = _memory()
    memory.pop(name, None)
    memory[name] = {"key": key, "sha256": checksum.sha256, "md5": checksum.md5}
    memory = dict(list(memory.items())[-_MAX_REMEMBERED:])
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=_MEMORY_FILE)
        with os.fdopen(handle, "w") as stream:
            json.dump(memory, stream)
        Path(temporary).replace(folder / _MEMORY_FILE)
    except OSError:
        return
