"""Jobs as they travel: images beside them, by their hash, and once to each node."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossylens.run.jobs import Carried, CarriedContent

#: Larger content goes through Ray's object store, from which a node gets it once, and is kept
#: on the node; smaller travels with its job.
BY_VALUE = 64 * 1024


@dataclass(frozen=True)
class Parcel:
    """Jobs without the large content that they carry.

    Attributes:
        jobs: pickled.
        large: hashes of that content.
    """

    jobs: bytes
    large: tuple[str, ...]


class Packing:
    """Packs jobs.

    Args:
        put: is given large content by its hash, before the parcel is sent.
        is_there: whether content need not be read.
    """

    def __init__(self, put: Callable[[str, bytes], None], is_there: Callable[[str], bool]) -> None:
        self._put, self._is_there = put, is_there

    def pack(self, jobs: object) -> Parcel:
        """Return *jobs* as they can be sent."""
        packed = io.BytesIO()
        pickler = _Pickler(packed, self._put, self._is_there)
        pickler.dump(jobs)
        return Parcel(packed.getvalue(), tuple(pickler.large))


class _Pickler(pickle.Pickler):
    def __init__(
        self,
        file: io.BytesIO,
        put: Callable[[str, bytes], None],
        is_there: Callable[[str], bool],
    ) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._put, self._is_there = put, is_there
        self.large: dict[str, None] = {}

    def persistent_id(self, value: object) -> Any:
        """Name large content by its hash; whatever else is pickled as it is."""
        if type(value) is not Carried:
            return None
        if value.sha256 not in self.large and not self._is_there(value.sha256):
            content = value.content()
            if content.problem or len(content.data) <= BY_VALUE:
                return content.data, content.problem
            self._put(value.sha256, content.data)
        self.large[value.sha256] = None
        return value.sha256


def unpack(parcel: Parcel, contents: Mapping[str, bytes]) -> Any:
    """Return the jobs of a parcel.

    Args:
        parcel: of the driver.
        contents: of its large content, by hash.
    """
    return _Unpickler(io.BytesIO(parcel.jobs), contents).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, contents: Mapping[str, bytes]) -> None:
        super().__init__(file)
        self._contents = contents

    def persistent_load(self, name: Any) -> CarriedContent:
        """Return what reads the content."""
        return (
            CarriedContent(self._contents[name]) if isinstance(name, str) else CarriedContent(*name)
        )


class NodeImages:
    """Content that a node keeps, in files named by their hash.

    Args:
        folder: None for one in the folder for temporary files.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = Path(folder) if folder else _default_folder()

    def get(self, sha256: str) -> bytes | None:
        """Return content, None if it is not there or damaged."""
        try:
            data = self._path(sha256).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def put(self, sha256: str, data: bytes) -> bool:
        """Keep content; return False if there is no room for it."""
        path = self._path(sha256)
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return False
        return True

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


def _default_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"lossylens-images-{os.getuid()}"
