"""Downloads of large files that may break off and go on later."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from filelock import lock_descriptor
from lossylens.errors import DataError
from lossylens.run.progress import Step, progress

_BLOCK = 2**20
_TIMEOUT = 60.0
_TRIES = 5
_MAX_PAUSE = 30.0

# Answers after which it makes sense to ask again.
_PASSING = {408, 429, 500, 502, 503, 504}
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416


@dataclass(frozen=True, slots=True)
class _Part:
    """What has arrived of a file so far.

    Attributes:
        path: of these bytes.
        url: of the file.
    """

    path: Path
    url: str

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def version(self) -> str:
        """Return by which name the server knows the version of these bytes, or ``""``."""
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(self._note.read_bytes())
            if isinstance(note, dict) and note.get("url") == self.url:
                return str(note.get("version", ""))
        return ""

    def start(self, version: str) -> None:
        """Begin anew, with a version of the file."""
        self.path.write_bytes(b"")
        self._note.write_text(json.dumps({"url": self.url, "version": version}))

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        self.path.replace(target)
        self._note.unlink(missing_ok=True)


class _BrokenOffError(Exception):
    """The connection ended before the file did."""


def download(
    url: str, target: Path, md5: str = "", *, sha256: str = "", pause: float = 1.0
) -> None:
    """Download *url* to *target*, going on where an earlier attempt broke off.

    A connection that breaks is taken up again, as long as each attempt or two
    bring something.  *target* appears only when it is complete and its checksum
    right; until then the bytes are beside it, in a file ending in ``.part``.
    One process downloads at a time; others wait for it.

    Args:
        url: ``http://`` or ``https://``.
        target: where the file goes; its folder is made.
        md5: of the file, in hexadecimal digits, if it is known.
        sha256: of the file, or its first digits, likewise.
        pause: seconds before a broken connection is taken up again; doubled each
            time that nothing came.

    Raises:
        DataError: the file cannot be had, or is not the one that is expected.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: not the address of a file on the web")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not target.exists():
                part = _Part(target.with_name(target.name + ".part"), url)
                _fetch_all(part, pause)
                _check(part, "md5", md5)
                _check(part, "sha256", sha256)
                part.finish(target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep other processes from downloading the same file."""
    with target.with_name(target.name + ".lock").open("w") as lock:
        lock_descriptor(lock.fileno())
        yield


def _fetch_all(part: _Part, pause: float) -> None:
    """Ask until the file is complete, or nothing comes any more."""
    failures = 0
    while True:
        before = part.size
        try:
            _fetch(part)
            return
        except (_BrokenOffError, httpx2.RequestError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
        failures = 1 if part.size > before else failures + 1
        if failures >= _TRIES:
            raise DataError(
                f"{part.url}: cannot be downloaded ({reason}); {part.size} bytes are kept, "
                "and the next attempt goes on from there"
            )
        time.sleep(min(_MAX_PAUSE, pause * 2 ** (failures - 1)))


def _fetch(part: _Part) -> None:
    """Ask once for what is missing.

    Raises:
        _BrokenOffError: something still is.
        RequestError: the connection has failed.
        DataError: the server will not have it.
    """
    with httpx2.stream(
        "GET", part.url, headers=_headers(part), timeout=_TIMEOUT, follow_redirects=True
    ) as answer:
        status = answer.status_code
        if status == _RANGE_NOT_SATISFIABLE and part.size:
            # Either everything is there, or it is of another file.
            if answer.headers.get("Content-Range") == f"bytes */{part.size}":
                return
            part.discard()
            raise _BrokenOffError("the file has changed")
        if status in _PASSING:
            raise _BrokenOffError(f"{status} {answer.reason_phrase}")
        if not answer.is_success:
            raise DataError(f"{part.url}: {status} {answer.reason_phrase}")
        if status == _PARTIAL_CONTENT:
            _check_start(answer, part)
        else:
            part.start(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        length = answer.headers.get("Content-Length")
        expected = part.size + int(length) if length and length.isdigit() else None
        _copy(answer, part, expected)
    if expected is not None and part.size < expected:
        raise _BrokenOffError(f"the connection broke at {part.size} of {expected} bytes")


def _headers(part: _Part) -> dict[str, str]:
    # Unpacked by the way, a file could not be taken up in the middle.
    headers = {"User-Agent": "lossylens", "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        version = part.version()
        # A weak name (W/...) does not promise equal bytes, so it cannot be given.
        if version and not version.startswith("W/"):
            headers["If-Range"] = version
    return headers


def _check_start(answer: httpx2.Response, part: _Part) -> None:
    """Make sure that *answer* starts where the bytes that are there end."""
    where = answer.headers.get("Content-Range", "")
    if not where.startswith(f"bytes {part.size}-"):
        part.discard()
        raise _BrokenOffError(f"the server sent {where!r} instead of what was asked for")


def _copy(answer: httpx2.Response, part: _Part, expected: int | None) -> None:
    """Append what comes to the part."""
    total = None if expected is None else expected // _BLOCK
    name = part.path.name.removesuffix(".part")
    with part.path.open("ab") as file, progress(f"Downloading {name}", total, "MB") as step:
        _advance(step, part.size // _BLOCK)
        for block in answer.iter_raw():
            before = file.tell() // _BLOCK
            file.write(block)
            _advance(step, file.tell() // _BLOCK - before)


def _advance(step: Step, count: int) -> None:
    if count:
        step.advance(count)


def _check(part: _Part, algorithm: str, expected: str) -> None:
    """Make sure that the hash of what came begins with *expected*."""
    if not expected:
        return
    with part.path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    if not found.hexdigest().startswith(expected):
        part.discard()
        raise DataError(
            f"{part.url}: the {algorithm.upper()} of what came is {found.hexdigest()}, not"
            f" {expected}; it was damaged on its way, or is another file now"
        )
