"""The bitstreams of a run: files named by their SHA-256."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path

from lossylens.errors import BitstreamError, StoreError

#: Files in ``bitstreams/`` begin with this, and the number of the process, until they are whole.
_UNFINISHED = "writing-"

_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def read_bitstream(folder: Path, sha256: str) -> bytes:
    """Return a bitstream of the run in *folder*.

    Raises:
        BitstreamError: its file is gone or is not what was stored.
    """
    try:
        bitstream = bitstream_path(folder, sha256).read_bytes()
    except OSError as error:
        raise BitstreamError(f"cannot read the stored bitstream: {error.strerror}") from error
    if hashlib.sha256(bitstream).hexdigest() != sha256:
        raise BitstreamError("the stored bitstream is damaged")
    return bitstream


def write_bitstream(folder: Path, bitstream: bytes) -> str:
    """Put a bitstream into the run in *folder*, complete or not at all; return its SHA-256.

    Several processes may do so at once.

    Raises:
        StoreError: it cannot be written.
    """
    sha256 = hashlib.sha256(bitstream).hexdigest()
    path = bitstream_path(folder, sha256)
    try:
        if not has_size(path, len(bitstream)):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = folder / "bitstreams" / f"{_UNFINISHED}{os.getpid()}"
            temporary.write_bytes(bitstream)
            temporary.replace(path)
    except OSError as error:
        raise unusable(folder, error) from error
    return sha256


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed had begun to write."""
    for path in (folder / "bitstreams").glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            path.unlink()


def unusable(folder: Path, error: Exception) -> StoreError:
    """Return what became of an operation on the database or a file, in one line."""
    number = getattr(error, "errno", None)
    if number in _OUT_OF_SPACE or "disk is full" in str(error):
        return StoreError(
            f"no space left to write to {folder}; what was finished is kept:"
            " free some and run the same command again"
        )
    reason = getattr(error, "strerror", None) or error
    return StoreError(f"cannot use run folder {folder}: {reason}")


def bitstream_path(folder: Path, sha256: str) -> Path:
    """Return where a bitstream of the run in *folder* is."""
    return folder / "bitstreams" / sha256[:2] / sha256


def has_size(path: Path, size: int) -> bool:
    """Whether a file is there and has *size* bytes."""
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
