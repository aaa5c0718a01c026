"""The guidance map: 8 x 8 cells over a picture, each to be coded worse, as it is, or better.

A cell is a digit of three values, and five of them make a byte: 13 bytes for the map.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lossylens.errors import BitstreamError, ConfigError
from numpy.typing import NDArray
from PIL.Image import Image

#: Cells along each side.
CELLS = 8

#: Cells in a byte.
_DIGITS = 5
_COUNT = CELLS**2

#: Bytes of a map.
BYTES = -(-_COUNT // _DIGITS)

#: Cell by cell and row by row: -1, 0 or 1 steps of level.
Steps = NDArray[np.int8]


def three_levels(attention: NDArray[np.float64], threshold: float) -> Steps:
    """Return a map: better above, worse below *threshold* standard deviations from the mean."""
    away = attention - attention.mean()
    reach = threshold * attention.std()
    return (away > reach).astype(np.int8) - (away < -reach).astype(np.int8)


def pack_map(steps: Steps) -> bytes:
    """Return the bytes of a map; none for one whose cells are all equal, which prefers nothing."""
    if np.ptp(steps) == 0:
        return b""
    digits = np.zeros(BYTES * _DIGITS, np.int64)
    digits[:_COUNT] = steps.ravel() + 1
    weights = 3 ** np.arange(_DIGITS)
    return (digits.reshape(BYTES, _DIGITS) @ weights).astype(np.uint8).tobytes()


def unpack_map(side: bytes) -> Steps:
    """Return what :func:`pack_map` was given.

    Raises:
        BitstreamError: it could not have written this.
    """
    values = np.frombuffer(side, np.uint8).astype(np.int64)
    digits = (values[:, None] // 3 ** np.arange(_DIGITS) % 3).ravel()
    sound = len(values) == BYTES and (values < 3**_DIGITS).all() and not digits[_COUNT:].any()
    if not sound or np.ptp(digits[:_COUNT]) == 0:
        raise BitstreamError("damaged: its guidance map is none")
    return (digits[:_COUNT].reshape(CELLS, CELLS) - 1).astype(np.int8)


def picture_key(image: Image) -> str:
    """Return under which name a file of maps has that of an RGB picture."""
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def write_maps(path: Path, maps: Mapping[str, Steps]) -> None:
    """Write a file of maps, by :func:`picture_key`."""
    found = {key: "".join(str(step + 1) for step in steps.flat) for key, steps in maps.items()}
    path.write_text(json.dumps(found, indent=0), encoding="utf-8")


def read_maps(path: Path) -> Mapping[str, Steps]:
    """Return the maps in a file: a JSON object of 64 digits 0, 1 or 2 for each picture.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    try:
        found = dict(json.loads(path.read_bytes()))
        return {key: _steps(digits) for key, digits in found.items()}
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"maps: {path} is no file of guidance maps: {error}") from error


def _steps(digits: object) -> Steps:
    if not isinstance(digits, str) or len(digits) != _COUNT or set(digits) - set("012"):
        raise ValueError(f"a map has {_COUNT} digits 0, 1 or 2")
    return (np.array(list(digits), np.int8) - 1).reshape(CELLS, CELLS)
