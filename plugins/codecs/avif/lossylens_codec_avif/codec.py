"""AVIF (AV1 still pictures) through Pillow, with libaom as encoder.

A bitstream is a whole AVIF file: boxes and metadata count into the rate, about
275 bytes.  AVIF does not store the quality it was encoded at, so a bitstream of
another level is decoded as well; the picture is right all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import PIL
from lossylens_toolkit.pillow_codec import PillowCodec
from PIL import features

from lossylens_codec_avif.plugin import AvifOptions
from lossylens_codec_avif.structure import AvifFormatError, picture_size


class Avif(PillowCodec):
    """AVIF at one quality.

    The limits on size are those of the AVIF Advanced Profile (AV1 level 6).  An
    absolute limit is needed because AV1 codes uniform areas in next to no bits: 300
    bytes can rightly stand for any size.
    """

    format = "AVIF"
    max_side = 16384
    max_pixels = 35_651_584

    options: AvifOptions

    def settings(self) -> Mapping[str, Any]:
        """Return quality, effort and what makes libaom deterministic."""
        return {
            "quality": self.quality,
            "speed": self.options.speed,
            "subsampling": self.options.subsampling,
            # Without quantisation libaom has nothing to tune, and refuses to.
            "advanced": {"tune": self.options.tune} if self.quality < 100 else {},
            "codec": "aom",
            # The bytes depend on whether there is one thread or more, and tiles
            # depend on the size of the picture.
            "max_threads": 1,
            "autotiling": False,
        }

    def check_file(self, bitstream: bytes) -> None:
        """Accept the structure that libavif writes for one opaque picture."""
        width, height = picture_size(bitstream)
        if max(width, height) > self.max_side or width * height > self.max_pixels:
            raise AvifFormatError(f"claims {width}x{height} pixels, more than the limit")

    def provenance(self) -> Mapping[str, str]:
        """Return the versions of Pillow, of libavif and of the AV1 coders in it."""
        found = {"pillow": PIL.__version__, "libavif": features.version("avif") or "none"}
        try:
            from PIL import _avif

            return {**found, "av1": _avif.codec_versions()}
        except (ImportError, AttributeError):  # a private module
            return found
