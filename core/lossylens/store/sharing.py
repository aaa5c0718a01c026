"""Bitstreams, and what is measured on them, that runs share: the folder ``run.cache``.

An entry is named by what decides its content: the key of the codec at its level
(see :class:`lossylens.grid.plan.Part`) and the hash of the image file.  It holds the
bitstream behind its SHA-256, so that damage shows, and is either complete or not
there.  Several processes may use the folder at once, and it may be emptied at any
time.

``encodings/<codec>/<first two digits>/<image>``
    The entries.  Other sections beside it are laid out alike, see
    :mod:`lossylens.run.shelf`.
``locks/``
    Files whose lock is held, by the operating system, while an entry is made, so
    that two runs do not make it twice.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import lock_descriptor

from lossylens.errors import StoreError

#: Seconds between two attempts to have a lock that another process has.
_POLL = 0.01

_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class SharedBitstreams:
    """The folder.

    Attributes:
        folder: where it is.
        section: part of it, for one kind of entries.
        where: place of the folder in the configuration, for error messages.

    Raises:
        StoreError: by every method, if the folder cannot be used.
    """

    folder: Path
    section: str = "encodings"
    where: str = "run.cache"

    def get(self, codec: str, image: str) -> bytes | None:
        """Return the bitstream of *image*, None if it is not there or damaged."""
        try:
            entry = self._path(codec, image).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        digest, bitstream = entry[:_DIGEST], entry[_DIGEST:]
        return bitstream if hashlib.sha256(bitstream).digest() == digest else None

    def put(self, codec: str, image: str, bitstream: bytes) -> None:
        """Keep a bitstream."""
        path = self._path(codec, image)
        temporary = path.with_name(f".{image}.{secrets.token_hex(8)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(hashlib.sha256(bitstream).digest() + bitstream)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def locked(self, codec: str, image: str) -> Iterator[None]:
        """Keep other processes from making the same entry while inside."""
        # A few thousand locks serve all entries; that two entries share one makes
        # one of them wait, rarely, and there is nothing to clean up.
        number = hashlib.sha256(f"{codec} {image}".encode()).hexdigest()[:3]
        try:
            path = self.folder / "locks" / number
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            lock_descriptor(lock, poll_interval=_POLL)
            yield
        finally:
            os.close(lock)

    def _path(self, codec: str, image: str) -> Path:
        return self.folder / self.section / codec / image[:2] / image

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(f"cannot use {self.where} {self.folder}: {error.strerror}")
