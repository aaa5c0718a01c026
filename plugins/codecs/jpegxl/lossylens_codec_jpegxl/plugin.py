"""Registers JPEG XL; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.quality import quality_level, quality_parser

#: Quality 100 is libjxl's lossless mode.
QUALITIES = range(100)


@dataclass
class JpegxlOptions:
    """Options of the encoder; the decoder needs none.

    Attributes:
        effort: 1 (fast) to 9 (slow, smaller).

    Raises:
        ValueError: another effort.
    """

    effort: int = 7

    def __post_init__(self) -> None:
        """Check the effort."""
        if not 1 <= self.effort <= 9:
            raise ValueError(f"effort {self.effort} is outside 1..9")


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register JPEG XL."""
    register(
        CodecSpec(
            name="jpegxl",
            aliases=("jxl",),
            summary="lossy JPEG XL: libjxl through pillow-jxl-plugin",
            factory="lossylens_codec_jpegxl.codec:Jpegxl",
            category="traditional",
            citation="ISO/IEC 18181-1 (JPEG XL core coding system)",
            licence="Apache-2.0; pillow-jxl-plugin is GPL-3.0-or-later",
            options=JpegxlOptions,
            levels=tuple(quality_level(quality) for quality in (0, 10, 30, 50)),
            parse_level=quality_parser(QUALITIES),
            level_help="q0 to q99",
        )
    )
