"""JPEG deblocking without training, by re-application of JPEG to shifted pictures.

After A. Nosratinia, Enhancement of JPEG-compressed images by re-application of JPEG, Journal
of VLSI Signal Processing 27, 2001: the decoded picture is coded once more with the same
quantisation tables, with its grid of blocks at other places, and the results are averaged.
A discontinuity lies on the border of a block in one of them alone, and in the others is
smoothed as all that the tables cannot tell.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from lossylens.errors import BitstreamError
from PIL import Image as PillowImage
from PIL.Image import Image
from PIL.JpegImagePlugin import get_sampling

#: Side of a block.
_BLOCK = 8


def reapplied(image: Image, bitstream: bytes, shifts: int) -> Image:
    """Return the mean of *image* and its re-applications, at *shifts* places of the grid.

    Memory is that of a few copies of the picture, whatever their number.

    Args:
        image: RGB, as decoded.
        bitstream: of it, a JPEG file, whose quantisation tables and subsampling are used.
        shifts: 1, which gives the picture as it is, to 64, all places of a block.

    Raises:
        BitstreamError: *bitstream* is no JPEG file of colours in a usual subsampling.
    """
    tables, subsampling = _settings(bitstream)
    pixels = np.asarray(image)
    total = np.zeros(pixels.shape, np.uint16)  # room for 257 pictures
    for down, right in offsets(shifts):
        if down == right == 0:
            total += pixels  # on its own grid it would come back as it is
            continue
        # The border is continued, so that the first block of a row is as smooth as it was.
        moved = np.pad(pixels, ((down, 0), (right, 0), (0, 0)), mode="edge")
        buffer = io.BytesIO()
        PillowImage.fromarray(moved).save(buffer, "JPEG", qtables=tables, subsampling=subsampling)
        with PillowImage.open(buffer, formats=("JPEG",)) as again:
            total += np.asarray(again)[down:, right:]
    return PillowImage.fromarray(((total + shifts // 2) // shifts).astype(np.uint8))


def offsets(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first *count* places of the grid, down and right; any number lies evenly.

    They come in the order of an ordered dither: halves of a block first, then quarters.
    A block of subsampled chroma is twice as large, so that whole blocks are added in turn.
    """
    for number in range(count):
        right, down = (_BLOCK * (number >> bit & 1) for bit in (2, 3))
        for bit in range(3):
            digit = number >> 2 * bit & 3
            step = _BLOCK >> bit + 1
            # Both, right, down: the place that lies farthest comes first.
            right += step * (digit in (1, 2))
            down += step * (digit in (1, 3))
        yield down, right


def _settings(bitstream: bytes) -> tuple[list[list[int]], int]:
    """Return quantisation tables, row by row, and subsampling, as Pillow numbers it."""
    try:
        with PillowImage.open(io.BytesIO(bitstream), formats=("JPEG",)) as file:
            jpeg: Any = file
            tables = [list(jpeg.quantization[table]) for *_, table in jpeg.layer]
            subsampling = get_sampling(jpeg)
    # Of damaged headers, Pillow raises whatever they lead to.
    except (OSError, ValueError, LookupError, SyntaxError, struct.error) as error:
        raise BitstreamError(f"restore: the bitstream is no JPEG file: {error}") from error
    if len(tables) != 3 or tables[1] != tables[2] or subsampling < 0:
        raise BitstreamError(
            f"restore: a JPEG of {len(tables)} components cannot be re-applied; one of colours in"
            " 4:4:4, 4:2:2 or 4:2:0 with one chroma table can"
        )
    return tables[:2], subsampling
