"""Lossy WebP (RFC 9649, RFC 6386) through Pillow, which uses libwebp.

A bitstream is a whole WebP file of the simple kind: the RIFF header and one VP8
chunk, all of which count into the rate.  WebP does not store the quality it was
encoded at, so a bitstream of another level is decoded as well; the picture is
right all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import PIL
from lossylens.images import MAX_PIXELS
from lossylens.images.webpfile import WebpFormatError, check_whole, vp8_size
from lossylens_toolkit.pillow_codec import PillowCodec
from PIL import features

from lossylens_codec_webp.plugin import WebpOptions


class Webp(PillowCodec):
    """Lossy WebP at one quality."""

    format = "WEBP"
    #: VP8's limit: 14 bits, of which libwebp leaves one value out.
    max_side = 16383

    options: WebpOptions

    def settings(self) -> Mapping[str, Any]:
        """Return quality and effort."""
        return {"lossless": False, "quality": self.quality, "method": self.options.method}

    def check_file(self, bitstream: bytes) -> None:
        """Accept a file of the simple lossy kind."""
        chunks = check_whole(bitstream)
        if [chunk.code for chunk in chunks] != [b"VP8 "]:
            raise WebpFormatError("not the simple lossy file that this codec writes")
        _check_size(*vp8_size(chunks[0].body), len(bitstream))

    def provenance(self) -> Mapping[str, str]:
        """Return the versions of Pillow and of libwebp in it."""
        return {"pillow": PIL.__version__, "libwebp": features.version("webp") or "none"}


def _check_size(width: int, height: int, length: int) -> None:
    """Refuse sizes that the bitstream is too short for, before they are allocated.

    Each 16x16 macroblock of a key frame codes its luma and chroma mode with fixed
    probabilities (RFC 6386, section 11.2), which takes at least -log2(145/256)
    for the first and -log2(142/256) for the second: more than 5/3 bits in all.
    """
    macroblocks = -(-width // 16) * -(-height // 16)
    if width * height > MAX_PIXELS or 5 * macroblocks > 3 * 8 * length:
        raise WebpFormatError(f"claims {width}x{height} pixels, too many for {length} bytes")
