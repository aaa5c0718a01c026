"""AVIF (AV1 still pictures) through Pillow, with libaom as encoder.

A bitstream is a whole AVIF file: boxes and metadata count into the rate, about
275 bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import PIL
from lossylens.codec import Codec, Level
from lossylens.errors import BitstreamError, ConfigError, ImageError
from lossylens.images import plain_rgb, read_image
from PIL import features
from PIL.Image import Image

from lossylens_codec_avif.plugin import AvifOptions
from lossylens_codec_avif.structure import AvifFormatError, picture_size

#: Limits of the AVIF Advanced Profile (AV1 level 6).  An absolute limit is needed
#: because AV1 codes uniform areas in next to no bits: 300 bytes can rightly
#: stand for any size.
MAX_SIDE = 16384
MAX_PIXELS = 35_651_584


class Avif(Codec):
    """AVIF at one quality."""

    options: AvifOptions

    def __init__(self, level: Level, options: AvifOptions) -> None:
        """Take *level*, whose ``quality`` is 0..100, and the options.

        Raises:
            ConfigError: the quality is none of libavif's.
        """
        super().__init__(level, options)
        quality = level.parameters.get("quality")
        if not isinstance(quality, int) or not 0 <= quality <= 100:
            raise ConfigError(f"avif: quality {quality!r} of level {level.name} is outside 0..100")
        self.quality = quality

    def encode(self, image: Image) -> bytes:
        """Return the AVIF file of *image*; the same bytes every time.

        Raises:
            ImageError: not RGB, a side beyond :data:`MAX_SIDE`, or more than
                :data:`MAX_PIXELS`.
        """
        if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"avif: {image.width}x{image.height} is too large; the limits are"
                f" {MAX_SIDE} per side and {MAX_PIXELS} pixels"
            )
        buffer = io.BytesIO()
        try:
            plain_rgb(image).save(
                buffer,
                "AVIF",
                quality=self.quality,
                speed=self.options.speed,
                subsampling=self.options.subsampling,
                # Without quantisation libaom has nothing to tune, and refuses to.
                advanced={"tune": self.options.tune} if self.quality < 100 else {},
                codec="aom",
                # The bytes depend on whether there is one thread or more, and
                # tiles depend on the size of the picture.
                max_threads=1,
                autotiling=False,
            )
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            raise ImageError(
                f"avif: cannot encode {image.width}x{image.height}: {error}"
            ) from error
        return buffer.getvalue()

    def decode(self, bitstream: bytes) -> Image:
        """Return the image in *bitstream*.

        AVIF does not store the quality it was encoded at, so a bitstream of
        another level is decoded as well; the picture is right all the same.

        Raises:
            BitstreamError: not an AVIF file of this codec, cut, extended, or
                damaged in a way that shows.  AVIF has no checksum: damage that
                still parses gives another picture of the same size.
        """
        try:
            width, height = picture_size(bitstream)
            if max(width, height) > MAX_SIDE:
                raise AvifFormatError(f"claims {width}x{height} pixels, more than the limit")
            return read_image(bitstream, formats=("AVIF",), max_pixels=MAX_PIXELS)
        except (AvifFormatError, ImageError) as error:
            raise BitstreamError(f"avif: {error}") from error

    def provenance(self) -> Mapping[str, str]:
        """Return the versions of Pillow, of libavif and of the AV1 coders in it."""
        found = {"pillow": PIL.__version__, "libavif": features.version("avif") or "none"}
        try:
            from PIL import _avif

            return {**found, "av1": _avif.codec_versions()}
        except (ImportError, AttributeError):  # a private module
            return found
