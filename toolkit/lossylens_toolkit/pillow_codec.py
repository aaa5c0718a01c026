"""Base of codecs whose bitstream is an image file written and read by Pillow."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from lossylens.codec import Codec, Level
from lossylens.errors import BitstreamError, ConfigError, ImageError
from lossylens.images import MAX_PIXELS, plain_rgb, read_image
from PIL.Image import Image


class PillowCodec(Codec):
    """A codec at one quality; every byte of its files counts into the rate.

    Attributes:
        format: Pillow's name of the format.
        qualities: the quality scale; a level's parameter ``quality`` is one of it.
        max_side: the longest side, in pixels.
        max_pixels: the most pixels.
        quality: of this instance.

    Raises:
        ConfigError: the quality of the level is none of the scale.
    """

    format: ClassVar[str]
    qualities: ClassVar[range] = range(101)
    max_side: ClassVar[int]
    max_pixels: ClassVar[int] = MAX_PIXELS

    def __init__(self, level: Level, options: Any) -> None:
        super().__init__(level, options)
        quality = level.parameters.get("quality")
        if not isinstance(quality, int) or quality not in self.qualities:
            scale = f"{self.qualities[0]}..{self.qualities[-1]}"
            raise ConfigError(
                f"{self._name}: quality {quality!r} of level {level.name} is outside {scale}"
            )
        self.quality = quality

    @property
    def _name(self) -> str:
        return self.format.lower()

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Return the arguments of ``Image.save`` for this level and these options."""

    @abstractmethod
    def check_file(self, bitstream: bytes) -> None:
        """Accept what this codec writes at this level; no pixel is decoded.

        That it states no larger size than its length allows is checked here, so
        that nothing is allocated on its word.

        Raises:
            ValueError: it is not a whole file of this kind; the message says why.
        """

    def encode(self, image: Image) -> bytes:
        """Return the file of *image*; the same bytes every time.

        Raises:
            ImageError: the image is not RGB, empty, or larger than the format or the
                decoder admits.
        """
        if max(image.size) > self.max_side or image.width * image.height > self.max_pixels:
            raise ImageError(
                f"{self._name}: {image.width}x{image.height} is too large; the limits are"
                f" {self.max_side} per side and {self.max_pixels} pixels"
            )
        plain = plain_rgb(image)
        try:
            return self.save(plain)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            raise ImageError(
                f"{self._name}: cannot encode {image.width}x{image.height}: {error}"
            ) from error

    def save(self, image: Image) -> bytes:
        """Return the file of *image*, which has been checked and has no metadata."""
        buffer = io.BytesIO()
        image.save(buffer, self.format, **self.settings())
        return buffer.getvalue()

    def decode(self, bitstream: bytes) -> Image:
        """Return the image in *bitstream*.

        Raises:
            BitstreamError: not a file of this codec, cut, extended, or damaged in a
                way that shows.  These formats have no check sum: damage that still
                parses gives another picture of the same size.
        """
        try:
            self.check_file(bitstream)
            return read_image(bitstream, formats=(self.format,), max_pixels=self.max_pixels)
        except (ValueError, ImageError) as error:
            raise BitstreamError(f"{self._name}: {error}") from error
