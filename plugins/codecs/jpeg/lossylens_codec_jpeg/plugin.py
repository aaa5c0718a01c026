"""Registers JPEG; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl


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
        digits = self.subsampling.replace(":", "")
        if digits not in {"444", "422", "420"}:
            raise ValueError(
                f"subsampling {self.subsampling!r} is not 4:4:4, 4:2:2 or 4:2:0"
                " (YAML needs quotes around these, or 420 without colons)"
            )
        self.subsampling = ":".join(digits)


def quality_level(quality: int) -> Level:
    """Return the level of a libjpeg quality, 1..100."""
    return Level(f"q{quality}", {"quality": quality})


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, ``q1`` to ``q100``, or None."""
    match = re.fullmatch(r"q(\d{1,3})", name.strip().lower(), re.ASCII)
    # 0 and numbers above 100 mean something to libjpeg, but not what they say.
    if not match or match[1].startswith("0") or int(match[1]) > 100:
        return None
    return quality_level(int(match[1]))


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
            parse_level=parse_level,
            level_help="q1 to q100",
        )
    )
