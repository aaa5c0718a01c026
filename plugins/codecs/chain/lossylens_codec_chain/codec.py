"""Codecs and scaling one after the other.

A picture goes through every step: a codec gives it back as decoded, a scaling makes it
smaller.  The last step is a codec, and its bitstream is that of the chain; with ``restore``
the size of the original comes before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import PIL
from lossylens.codec import Codec, Level
from lossylens.errors import BitstreamError, ConfigError, ImageError
from lossylens.images import MAX_PIXELS, plain_rgb
from PIL.Image import Image, Resampling

from lossylens_codec_chain.composing import SCALE, ComposedOptions, Step
from lossylens_codec_chain.scaling import Scaling

# Width and height of the original.
_SIZE = struct.Struct(">II")


class Chain(Codec):
    """A chain at one level of the step that varies."""

    options: ComposedOptions

    def __init__(self, level: Level, options: ComposedOptions) -> None:
        """Build the codecs of the steps.

        Raises:
            ConfigError: the options do not come from the registry, or a codec refuses its own.
        """
        super().__init__(level, options)
        if not isinstance(options, ComposedOptions):
            raise ConfigError("chain: build it by the registry, which has the codecs of its steps")
        self._steps = [(step, step.built(level)) for step in options.parts]
        # Made sure of when the chain was composed.
        last = self._steps[-1][1]
        assert isinstance(last, Codec)
        self._last = last
        codecs = [each for _, each in self._steps if isinstance(each, Codec)]
        kept = all(each.keeps_size for each in codecs)
        if options.restore and not kept:
            raise ConfigError("chain: restore needs codecs that keep the size of pictures")
        whole = kept and len(codecs) == len(self._steps)
        self._restores = options.restore and not whole
        self.keeps_size = options.restore or whole
        self.wants_device = any(each.wants_device for each in codecs)

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of *image*.

        Raises:
            ImageError: it is not RGB, is empty, or a step cannot carry it.
        """
        size = image.size
        image = plain_rgb(image)
        for number, (step, each) in enumerate(self._steps[:-1], 1):
            if isinstance(each, Scaling):
                image = each(image)
                continue
            with self._naming(number, step):
                image = each.decode(each.encode(image))
        with self._naming(len(self._steps), self._steps[-1][0]):
            bitstream = self._last.encode(image)
        return _SIZE.pack(*size) + bitstream if self._restores else bitstream

    def decode(self, bitstream: bytes) -> Image:
        """Return the picture in *bitstream*, in the size in which it was sent or the original's.

        Raises:
            BitstreamError: it is damaged, or of another chain.
        """
        if not self._restores:
            return self._last.decode(bitstream)
        if len(bitstream) < _SIZE.size:
            raise BitstreamError(f"chain: {len(bitstream)} bytes are too few for the size")
        width, height = _SIZE.unpack_from(bitstream)
        if not 0 < width * height <= MAX_PIXELS:
            raise BitstreamError(f"chain: {width}x{height} pixels, 1 to {MAX_PIXELS} are allowed")
        image = self._last.decode(bitstream[_SIZE.size :])
        if image.size != self._sent(width, height):
            raise BitstreamError(
                f"chain: a picture of {image.width}x{image.height} for one of {width}x{height}"
            )
        return image.resize((width, height), Resampling.LANCZOS)

    def _sent(self, width: int, height: int) -> tuple[int, int]:
        """Return the size in which a picture is sent."""
        for _, each in self._steps:
            if isinstance(each, Scaling):
                width, height = each.size(width, height)
        return width, height

    def provenance(self) -> Mapping[str, str]:
        """Return what every step is made of: plugin, version, options, level, provenance."""
        found = {}
        for number, (step, each) in enumerate(self._steps, 1):
            level = step.level.name if step.level else "the level of the chain"
            found[f"step {number}"] = f"{step.made_of} at {level}"
            if isinstance(each, Codec):
                for name, value in each.provenance().items():
                    found[f"step {number}: {name}"] = value
        if self._restores or any(step.name == SCALE for step in self.options.parts):
            found["scaling"] = f"Pillow {PIL.__version__}"
        return found

    @staticmethod
    @contextmanager
    def _naming(number: int, step: Step) -> Iterator[None]:
        """Name the step that cannot carry an image."""
        try:
            yield
        except (ImageError, BitstreamError) as error:
            raise ImageError(f"chain, step {number}: {error}") from error
