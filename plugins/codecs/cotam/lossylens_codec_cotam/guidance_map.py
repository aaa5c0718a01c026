"""The guidance map: cells over a picture, each to be coded worse, as it is, or better.

A map has 8 x 8 cells, or 8 x 8 for each of the tiles into which a picture is thought to be
cut.  A cell is a digit of three values, and five of them make a byte: 13 bytes for 8 x 8 cells.
A map of several tiles has the byte 243, which no five digits make, and the numbers of columns
and rows of tiles before them; the tiles follow row by row.
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

#: Cells along each side, of a picture or a tile.
CELLS = 8

#: Cells in a byte.
_DIGITS = 5
_COUNT = CELLS**2

#: Bytes of 8 x 8 cells.
BYTES = -(-_COUNT // _DIGITS)

#: First byte of a map of several tiles.
_TILED = 3**_DIGITS

#: Bytes before the cells of such a map.
HEADER = 3

#: Most tiles of a map.
MOST_TILES = 64

#: Cell by cell and row by row: -1, 0 or 1 steps of level.
Steps = NDArray[np.int8]


def three_levels(attention: NDArray[np.float64], threshold: float) -> Steps:
    """Return a map: better above, worse below *threshold* standard deviations from the mean."""
    away = attention - attention.mean()
    reach = threshold * attention.std()
    return (away > reach).astype(np.int8) - (away < -reach).astype(np.int8)


def pack_map(steps: Steps) -> bytes:
    """Return the bytes of a map; none for one whose cells are all equal, which prefers nothing.

    Args:
        steps: ``(8 * rows, 8 * columns)`` for rows and columns of tiles.
    """
    if np.ptp(steps) == 0:
        return b""
    rows, columns = (side // CELLS for side in steps.shape)
    tiles = steps.reshape(rows, CELLS, columns, CELLS).swapaxes(1, 2)
    digits = np.zeros((rows * columns, BYTES * _DIGITS), np.int64)
    digits[:, :_COUNT] = tiles.reshape(rows * columns, _COUNT) + 1
    values = digits.reshape(-1, _DIGITS) @ 3 ** np.arange(_DIGITS)
    header = bytes([_TILED, columns, rows]) if rows * columns > 1 else b""
    return header + values.astype(np.uint8).tobytes()


def map_length(start: bytes) -> int:
    """Return the length of the map with which *start* begins.

    Raises:
        BitstreamError: it begins with none.
    """
    if start and start[0] < _TILED:
        return BYTES
    columns, rows = _tiles(start)
    return HEADER + BYTES * columns * rows


def unpack_map(side: bytes) -> Steps:
    """Return what :func:`pack_map` was given.

    Raises:
        BitstreamError: it could not have written this.
    """
    damaged = BitstreamError("damaged: its guidance map is none")
    if len(side) != map_length(side):
        raise damaged
    columns, rows = (1, 1) if len(side) == BYTES else _tiles(side)
    values = np.frombuffer(side[-BYTES * columns * rows :], np.uint8).astype(np.int64)
    digits = (values[:, None] // 3 ** np.arange(_DIGITS) % 3).reshape(rows * columns, -1)
    cells = digits[:, :_COUNT]
    if (values >= 3**_DIGITS).any() or digits[:, _COUNT:].any() or np.ptp(cells) == 0:
        raise damaged
    tiles = (cells - 1).astype(np.int8).reshape(rows, columns, CELLS, CELLS)
    return tiles.swapaxes(1, 2).reshape(rows * CELLS, columns * CELLS)


def _tiles(start: bytes) -> tuple[int, int]:
    """Return columns and rows of tiles from the header of a map of several."""
    if len(start) >= HEADER and start[0] == _TILED:
        columns, rows = start[1], start[2]
        if 1 < columns * rows <= MOST_TILES:
            return columns, rows
    raise BitstreamError("damaged: its guidance map is none")


def picture_key(image: Image) -> str:
    """Return under which name a file of maps has that of an RGB picture."""
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def write_maps(path: Path, maps: Mapping[str, Steps]) -> None:
    """Write a file of maps of 8 x 8 cells, by :func:`picture_key`."""
    found = {key: "".join(str(step + 1) for step in steps.flat) for key, steps in maps.items()}
    path.write_text(json.dumps(found, indent=0), encoding="utf-8")


def read_maps(path: Path) -> Mapping[str, Steps]:
    """Return the maps in a file: a JSON object of 64 digits 0, 1 or 2 for each picture.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or not found:
            raise ValueError("expected a JSON object with a map for each picture")
        return {key: _steps(digits) for key, digits in found.items()}
    except (OSError, RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"maps: {path} is no file of guidance maps: {error}") from error


def _steps(digits: object) -> Steps:
    if not isinstance(digits, str) or len(digits) != _COUNT or set(digits) - set("012"):
        raise ValueError(f"a map has {_COUNT} digits 0, 1 or 2")
    return (np.array(list(digits), np.int8) - 1).reshape(CELLS, CELLS)
