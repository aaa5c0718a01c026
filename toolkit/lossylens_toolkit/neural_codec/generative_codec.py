"""What generative codecs add to the codec contract: the official way of counting."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from lossylens.codec import bits_per_pixel
from PIL import Image

from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.neural_options import GenerativeCodecOptions


class GenerativeCodec(NeuralCodec):
    """A learned codec whose official script does not count the bytes of a file.

    Attributes:
        counting: what that script counts, in a few words.
    """

    counting: ClassVar[str]

    options: GenerativeCodecOptions

    @abstractmethod
    def official_bits(self, image: Image.Image, bitstream: bytes) -> float:
        """Return the bits that the official script counts for *image*."""

    def encode_batch(self, images: Sequence[Image.Image]) -> list[bytes]:
        """See the base; with the option ``official_rate`` a line for each goes to stderr."""
        bitstreams = super().encode_batch(images)
        if self.options.official_rate:
            for image, bitstream in zip(images, bitstreams, strict=True):
                print(self._rates(image, bitstream), file=sys.stderr, flush=True)
        return bitstreams

    def _rates(self, image: Image.Image, bitstream: bytes) -> str:
        own = bits_per_pixel(len(bitstream), *image.size)
        official = self.official_bits(image, bitstream) / (image.width * image.height)
        return (
            f"{self.name} {self.level.name}: {own:.5f} bpp in {len(bitstream)} bytes;"
            f" {official:.5f} bpp as the official script counts ({self.counting})"
        )
