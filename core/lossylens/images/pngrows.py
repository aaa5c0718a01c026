"""Decoding a PNG file only if it holds all of its rows.

Pillow refuses a PNG that is cut within its data, but takes compressed data that end in good
order after a few rows for a picture, whose other rows are black.  The chunks that follow
the picture may be missing, and so may the data's checksum.

Follows the PNG specification (ISO/IEC 15948), clauses 7, 8 and 10.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import ImageFile

from lossylens.errors import ImageError

_SIGNATURE = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: Passes of an interlaced picture: first column and row, and steps.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_BLOCK = 2**20

# What the last pixel is before the picture is decoded, in samples of 8 bits; few are so.
_SENTINEL = 0xA5


def load_png(image: ImageFile.ImageFile, data: bytes) -> None:
    """Decode *image*, which was opened from *data*, as its ``load`` does.

    Raises:
        ImageError: rows are missing.
        OSError: Pillow's, about broken or truncated data.
    """
    # Not the PNG reader's own, which is to be called once.
    ImageFile.ImageFile.load_prepare(image)
    last = image.width - 1, image.height - 1
    bands = len(image.getbands())
    sentinel = _SENTINEL if bands == 1 else (_SENTINEL,) * bands
    image.im.pixel_access(False)[last] = sentinel
    image.load()
    # Rows are written in order, so that the last pixel tells, unless it may be so itself.
    interlaced = data[28] != 0  # IHDR is always first
    untouched = image.im.pixel_access(True)[last] == sentinel or image.mode == "1"
    if (interlaced or untouched) and not _has_all_rows(data):
        raise ImageError("the file is truncated: its data end before the last row")


def _has_all_rows(data: bytes) -> bool:
    width, height, bits, colour, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    sample = bits * _CHANNELS[colour]
    passes = _PASSES if interlace else ((0, 0, 1, 1),)
    missing = 0
    for left, top, right, down in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + -(-columns * sample // 8))
    inflate = zlib.decompressobj()
    for chunk in _compressed(data):
        while chunk and missing > 0 and not inflate.eof:
            missing -= len(inflate.decompress(chunk, _BLOCK))
            chunk = inflate.unconsumed_tail
    while missing > 0 and not inflate.eof and (more := inflate.decompress(b"", _BLOCK)):
        missing -= len(more)
    return missing <= 0


def _compressed(data: bytes) -> Iterator[bytes]:
    """Yield the content of the IDAT chunks of the first picture."""
    position, begun = _SIGNATURE, False
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        is_data = data[position + 4 : position + 8] == b"IDAT"
        if is_data:
            yield data[position + 8 : position + 8 + length]
        elif begun:
            return
        begun = is_data
        position += 12 + length
