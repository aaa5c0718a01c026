"""Lossy WebP (RFC 9649, RFC 6386) through Pillow, which uses libwebp.

A bitstream is a whole WebP file of the simple kind: the RIFF header and one VP8
chunk, all of which count into the rate.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import PIL
from lossylens.codec import Codec, Level
from lossylens.errors import BitstreamError, ConfigError, ImageError
from lossylens.images import MAX_PIXELS, plain_rgb, read_image
from lossylens.webpfile import WebpFormatError, check_whole, vp8_size
from PIL import features
from PIL.Image import Image

from lossylens_codec_webp.plugin import WebpOptions

#: VP8's limit on either side: 14 bits, of which libwebp leaves one value out.
MAX_SIDE = 16383


class Webp(Codec):
    """Lossy WebP at one quality."""

    options: WebpOptions

    def __init__(self, level: Level, options: WebpOptions) -> None:
        """Take *level*, whose ``quality`` is 0..100, and the options.

        Raises:
            ConfigError: the quality is none of WebP's.
        """
        super().__init__(level, options)
        quality = level.parameters.get("quality")
        if not isinstance(quality, int) or not 0 <= quality <= 100:
            raise ConfigError(f"webp: quality {quality!r} of level {level.name} is outside 0..100")
        self.quality = quality

    def encode(self, image: Image) -> bytes:
        """Return the WebP file of *image*; the same bytes every time.

        Raises:
            ImageError: not RGB, a side beyond :data:`MAX_SIDE`, or more pixels
                than the decoder admits.
        """
        if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"webp: {image.width}x{image.height} is too large; the limits are"
                f" {MAX_SIDE} per side and {MAX_PIXELS} pixels"
            )
        buffer = io.BytesIO()
        try:
            plain_rgb(image).save(
                buffer, "WEBP", lossless=False, quality=self.quality, method=self.options.method
            )
        except (OSError, ValueError, MemoryError) as error:
            raise ImageError(
                f"webp: cannot encode {image.width}x{image.height}: {error}"
            ) from error
        return buffer.getvalue()

    def decode(self, bitstream: bytes) -> Image:
        """Return the image in *bitstream*.

        WebP does not store the quality it was encoded at, so a bitstream of
        another level is decoded as well; the picture is right all the same.

        Raises:
            BitstreamError: not a lossy WebP file of this codec, cut, extended,
                or damaged in a way that shows.  WebP has no checksum: damage
                that still parses gives another picture of the same size.
        """
        try:
            chunks = check_whole(bitstream)
            if [chunk.code for chunk in chunks] != [b"VP8 "]:
                raise WebpFormatError("not the simple lossy file that this codec writes")
            _check_size(*vp8_size(chunks[0].body), len(bitstream))
            return read_image(bitstream, formats=("WEBP",))
        except (WebpFormatError, ImageError) as error:
            raise BitstreamError(f"webp: {error}") from error

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
