"""The codec that does not compress: the reference point of every comparison."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from lossylens.codec import Codec
from lossylens.errors import BitstreamError, ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

# Magic, format version, width, height.
_HEADER = struct.Struct(">4sBII")
_MAGIC = b"LLRW"
_VERSION = 1


class Uncompressed(Codec):
    """Raw RGB samples behind a header that makes the bitstream self-contained."""

    def encode(self, image: Image) -> bytes:
        """Return header and samples of *image*.

        Raises:
            ImageError: the image is not RGB, or has no pixels.
        """
        if image.mode != "RGB":
            raise ImageError(f"uncompressed: the image is {image.mode}; convert it to RGB first")
        if 0 in image.size:
            raise ImageError("uncompressed: the image has no pixels")
        return _HEADER.pack(_MAGIC, _VERSION, image.width, image.height) + image.tobytes()

    def decode(self, bitstream: bytes) -> Image:
        """Return the image that *bitstream* carries.

        Raises:
            BitstreamError: the bitstream is damaged or of another codec.
        """
        from PIL import Image

        width, height = _read_header(bitstream)
        return Image.frombytes("RGB", (width, height), bitstream[_HEADER.size :])


def _read_header(bitstream: bytes) -> tuple[int, int]:
    """Return width and height, once the length of *bitstream* agrees with them."""
    if len(bitstream) < _HEADER.size:
        raise BitstreamError(f"uncompressed: {len(bitstream)} bytes are too few for the header")
    magic, version, width, height = _HEADER.unpack_from(bitstream)
    if magic != _MAGIC:
        raise BitstreamError("uncompressed: this is not a bitstream of this codec")
    if version != _VERSION:
        raise BitstreamError(
            f"uncompressed: format version {version} is unknown, this reads {_VERSION}"
        )
    # The size is a claim until the bytes bear it out; nothing is allocated before.
    expected = _HEADER.size + 3 * width * height
    if not width or not height or len(bitstream) != expected:
        raise BitstreamError(
            f"uncompressed: a {width}x{height} image takes {expected} bytes,"
            f" the bitstream has {len(bitstream)}"
        )
    return width, height
