"""Registers WebP; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing


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


def quality_level(quality: int) -> Level:
    """Return the level of a libwebp quality, 0..100."""
    return Level(f"q{quality}", {"quality": quality})


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, ``q0`` to ``q100``, or None."""
    match = re.fullmatch(r"q(0|[1-9]\d?|100)", name.strip().lower(), re.ASCII)
    return quality_level(int(match[1])) if match else None


def missing(options: WebpOptions) -> Sequence[Missing]:
    """Say whether this Pillow was built without WebP."""
    from PIL import features

    if features.check("webp"):
        return ()
    return (
        Missing("WebP in Pillow", "install a Pillow built with libwebp, such as PyPI's wheels"),
    )


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
            requirements=missing,
            levels=tuple(quality_level(quality) for quality in (0, 5, 20, 50)),
            parse_level=parse_level,
            level_help="q0 to q100",
        )
    )
