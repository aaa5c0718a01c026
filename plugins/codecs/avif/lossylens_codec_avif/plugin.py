"""Registers AVIF; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.quality import (
    pillow_with,
    quality_level,
    quality_parser,
    subsampling_with_colons,
)

_TUNES = ("ssim", "iq", "psnr")


@dataclass
class AvifOptions:
    """Options of the encoder; the decoder needs none.

    Attributes:
        speed: effort, 0 (very slow, smaller) to 10 (fast).
        subsampling: chroma subsampling, ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``,
            with or without the colons.
        tune: what libaom optimises: ``"ssim"``, ``"iq"`` or ``"psnr"``.  libavif's
            own default changed from ssim to iq with 1.4, and moved all rates.

    Raises:
        ValueError: a value outside these.
    """

    speed: int = 6
    subsampling: str = "4:2:0"
    tune: str = "ssim"

    def __post_init__(self) -> None:
        """Check the values and write the subsampling with colons."""
        if not 0 <= self.speed <= 10:
            raise ValueError(f"speed {self.speed} is outside 0..10")
        if self.tune not in _TUNES:
            raise ValueError(f"tune {self.tune!r} is not one of {', '.join(_TUNES)}")
        self.subsampling = subsampling_with_colons(self.subsampling)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register AVIF."""
    register(
        CodecSpec(
            name="avif",
            summary="AVIF (AV1 still picture): libaom and libavif through Pillow",
            factory="lossylens_codec_avif.codec:Avif",
            category="traditional",
            citation="AV1 Image File Format (AVIF) v1.1.0; AV1 Bitstream & Decoding Process",
            licence="Apache-2.0",
            options=AvifOptions,
            requirements=pillow_with(
                "avif",
                "AVIF in Pillow",
                "install Pillow 11.3 or later built with libavif and libaom, such as PyPI's wheels",
            ),
            levels=tuple(quality_level(quality) for quality in (0, 10, 30, 50)),
            parse_level=quality_parser(range(101)),
            level_help="q0 to q100",
        )
    )
