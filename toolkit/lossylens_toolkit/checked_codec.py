"""Base of codecs around a coder that does not check what it is given.

The author codes pixels to bytes and back; all else that the contract asks for is here.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from typing import ClassVar

from lossylens.codec import Codec
from lossylens.errors import BitstreamError
from lossylens.images import plain_rgb
from PIL.Image import Image

#: Bytes of the check sum that comes first.
_CHECKSUM = 4


class CheckedCodec(Codec):
    """A codec whose bitstreams carry a check sum: four bytes, which count into the rate.

    The check sum (CRC-32) covers the class, its version, the level and the payload.
    Whatever was cut, damaged or made by another codec or level is refused before the
    payload is decoded; so is what :meth:`decompress` cannot decode.

    Attributes:
        version: of the payload; raised whenever the meaning of its bytes changes.
    """

    version: ClassVar[int] = 1

    @abstractmethod
    def compress(self, image: Image) -> bytes:
        """Return the payload of *image*, which is RGB, not empty and has no metadata.

        Raises:
            ImageError: the image is outside what the format can carry.
        """

    @abstractmethod
    def decompress(self, payload: bytes) -> Image:
        """Return the RGB image of a payload whose check sum is right; may raise anything."""

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of *image*.

        Raises:
            ImageError: the image is not RGB, empty, or outside what the format can carry.
        """
        payload = self.compress(plain_rgb(image))
        return self._checksum(payload) + payload

    def decode(self, bitstream: bytes) -> Image:
        """Return the image in *bitstream*.

        Raises:
            BitstreamError: damaged, or of another codec, version or level.
        """
        name = type(self).__name__
        payload = bitstream[_CHECKSUM:]
        if self._checksum(payload) != bitstream[:_CHECKSUM]:
            raise BitstreamError(
                f"{name}: damaged, or not of version {self.version} and level {self.level.name}"
            )
        try:
            return plain_rgb(self.decompress(payload))
        except Exception as error:  # whatever the coder raises
            raise BitstreamError(f"{name}: cannot be decoded: {error}") from error

    def _checksum(self, payload: bytes) -> bytes:
        made_by = f"{type(self).__qualname__} {self.version} {self.level.name} "
        return zlib.crc32(payload, zlib.crc32(made_by.encode())).to_bytes(_CHECKSUM, "big")
