"""Registers JPEG; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.quality import quality_level, quality_parser, subsampling_with_colons

#: 0 and numbers above 100 mean something to libjpeg, but not what they say.
QUALITIES = range(1, 101)


@dataclass
class JpegOptions:
    """Options of the encoder; the decoder needs none.

    Attributes:
        optimize: build Huffman tables for each picture instead of taking the
            standard ones; the same pixels in fewer bytes.
        progressive: write a progressive file; implies ``optimize``.
        subsampling: chroma subsampling, ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``,
            with or without the colons.

    Raises:
        ValueError: another subsampling.
    """

    optimize: bool = False
    progressive: bool = False
    subsampling: str = "4:2:0"

    def __post_init__(self) -> None:
        """Check the subsampling and write it with colons."""
        self.subsampling = subsampling_with_colons(self.subsampling)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register JPEG."""
    register(
        CodecSpec(
            name="jpeg",
            summary="JPEG: libjpeg-turbo through Pillow",
            factory="lossylens_codec_jpeg.codec:Jpeg",
            aliases=("jpg",),
            category="traditional",
            citation="ITU-T Recommendation T.81 | ISO/IEC 10918-1, 1992",
            licence="Apache-2.0",
            options=JpegOptions,
            levels=tuple(quality_level(quality) for quality in (1, 3, 5, 6)),
            parse_level=quality_parser(QUALITIES),
            level_help="q1 to q100",
        )
    )
