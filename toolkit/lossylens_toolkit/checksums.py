"""Checksums of files, computed once and remembered; light to import.

A file is taken for the same as long as its identity is, which holds more than users can
set: archives, ``cp -p`` and ``rsync -t`` give another content of the same size the same
time of modification, but never the same inode and time of status change.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lossylens_toolkit.cache_folder import cache_folder

_BLOCK = 4 * 2**20
_MEMORY_FILE = "checksums.json"
_MAX_REMEMBERED = 1000

# A file changed so recently may change again within the resolution of the clock
# of its file system, with the same size.
_SETTLED_NS = 2 * 10**9

#: Device, inode, size, times of modification and of status change in nanoseconds.
Identity = tuple[int, int, int, int, int]


def file_identity(file: Path | BinaryIO) -> Identity:
    """Return what changes whenever the content of *file* does.

    Raises:
        OSError: it is not there.
    """
    status = file.stat() if isinstance(file, Path) else os.fstat(file.fileno())
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def file_checksums(path: Path, *algorithms: str) -> Mapping[str, str]:
    """Return checksums of a file in hexadecimal, from memory if they are remembered.

    Args:
        path: of the file.
        algorithms: such as ``"sha256"``, as hashlib names them.

    Raises:
        OSError: the file cannot be read.
    """
    name = str(path.resolve())
    with path.open("rb") as stream:
        identity = file_identity(stream)
        known = _recall(name, identity)
        if not set(algorithms) <= known.keys():
            known = known | _computed(stream, algorithms)
            settled = time.time_ns() - max(identity[3:]) > _SETTLED_NS
            if settled and file_identity(stream) == identity:
                _remember(name, identity, known)
    return {each: known[each] for each in algorithms}


def _computed(stream: BinaryIO, algorithms: tuple[str, ...]) -> dict[str, str]:
    # Imported here, because plugins that are only listed import this module.
    import hashlib
    from concurrent.futures import ThreadPoolExecutor

    digests = [hashlib.new(each, usedforsecurity=False) for each in algorithms]
    # Hashing a large block leaves the interpreter to the other threads.
    with ThreadPoolExecutor(len(digests)) as threads:
        while block := stream.read(_BLOCK):
            for done in [threads.submit(digest.update, block) for digest in digests]:
                done.result()
    return {each: digest.hexdigest() for each, digest in zip(algorithms, digests, strict=True)}


def _recall(name: str, identity: Identity) -> dict[str, str]:
    entry = _memory().get(name)
    if not isinstance(entry, dict) or entry.get("identity") != list(identity):
        return {}
    found = entry.get("checksums")
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        return {}
    return found


def _memory() -> dict[str, Any]:
    try:
        memory = json.loads((cache_folder() / _MEMORY_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(name: str, identity: Identity, checksums: dict[str, str]) -> None:
    """Add to the memory; a folder that cannot be written to is no error."""
    memory = _memory()
    memory.pop(name, None)
    memory[name] = {"identity": identity, "checksums": checksums}
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
