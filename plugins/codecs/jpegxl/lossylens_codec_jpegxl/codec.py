"""Lossy JPEG XL (ISO/IEC 18181) through pillow-jxl-plugin, which has libjxl in it.

A bitstream is a bare codestream without a container, all of which counts into the
rate.  It does not tell the quality it was encoded at, so a bitstream of another level
is decoded as well; the picture is right all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import pillow_jxl  # noqa: F401  # makes Pillow write JPEG XL
from lossylens.errors import BitstreamError
from lossylens_toolkit.isolated import RefusedError, isolated
from lossylens_toolkit.pillow_codec import PillowCodec
from PIL import Image as PillowImage
from PIL.Image import Image

from lossylens_codec_jpegxl.plugin import QUALITIES, JpegxlOptions
from lossylens_codec_jpegxl.structure import JpegxlFormatError, picture_size

#: Frames inside a codestream may be larger than the picture, and libjxl bounds neither
#: their memory nor their time.  What decoding may take in its own process:
_SECONDS = 120.0
_MEMORY = 3 * 2**30


class Jpegxl(PillowCodec):
    """Lossy JPEG XL at one quality.

    The limits on size are those of AVIF's Advanced Profile.  An absolute limit is
    needed because uniform areas cost next to nothing: 20 bytes can rightly stand for
    any size.
    """

    format = "JXL"
    qualities = QUALITIES
    max_side = 16384
    max_pixels = 35_651_584

    options: JpegxlOptions

    def settings(self) -> Mapping[str, Any]:
        """Return quality and effort; a bare codestream, made by one thread."""
        return {
            "quality": self.quality,
            "effort": self.options.effort,
            "use_container": False,
            "num_threads": 0,
        }

    def check_file(self, bitstream: bytes) -> None:
        """Accept a bare codestream that states an admissible size."""
        width, height = picture_size(bitstream)
        if max(width, height) > self.max_side or width * height > self.max_pixels:
            raise JpegxlFormatError(f"claims {width}x{height} pixels, more than the limit")

    def decode(self, bitstream: bytes) -> Image:
        """Return the image in *bitstream*, decoded in a process of its own.

        Raises:
            BitstreamError: not a codestream of one RGB picture, cut, or damaged in a
                way that shows.  There is no check sum: damage that still parses gives
                another picture of the same size.
        """
        decode = isolated(
            "lossylens_codec_jpegxl.decoding:decode", seconds=_SECONDS, memory=_MEMORY
        )
        try:
            self.check_file(bitstream)
            pixels = decode(bitstream)
        except (JpegxlFormatError, RefusedError) as error:
            raise BitstreamError(f"jpegxl: {error}") from error
        return PillowImage.frombytes("RGB", picture_size(bitstream), pixels)

    def provenance(self) -> Mapping[str, str]:
        """Return the version of pillow-jxl-plugin, which libjxl comes with."""
        return {"pillow-jxl-plugin": metadata.version("pillow-jxl-plugin")}
