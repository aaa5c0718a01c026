"""Registers WebP; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.quality import pillow_with, quality_level, quality_parser


@dataclass
class WebpOptions:
    """Options of the encoder; the decoder needs none.

    Attributes:
        method: effort, 0 (fast) to 6 (slow, smaller or better).

    Raises:
        ValueError: another method.
    """

    method: int = 4

    def __post_init__(self) -> None:
        """Check the method."""
        if not 0 <= self.method <= 6:
            raise ValueError(f"method {self.method} is outside 0..6")


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register WebP."""
    register(
        CodecSpec(
            name="webp",
            summary="lossy WebP: libwebp through Pillow",
            factory="lossylens_codec_webp.codec:Webp",
            category="traditional",
            citation="RFC 9649 (WebP image format); RFC 6386 (VP8 data format)",
            licence="Apache-2.0",
            options=WebpOptions,
            requirements=pillow_with(
                "webp",
                "WebP in Pillow",
                "install a Pillow built with libwebp, such as PyPI's wheels",
            ),
            levels=tuple(quality_level(quality) for quality in (0, 5, 20, 50)),
            parse_level=quality_parser(range(101)),
            level_help="q0 to q100",
        )
    )
