"""Registers AVIF; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing

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
        digits = self.subsampling.replace(":", "")
        if digits not in {"444", "422", "420"}:
            raise ValueError(
                f"subsampling {self.subsampling!r} is not 4:4:4, 4:2:2 or 4:2:0"
                " (YAML needs quotes around these, or 420 without colons)"
            )
        self.subsampling = ":".join(digits)


def quality_level(quality: int) -> Level:
    """Return the level of a libavif quality, 0..100."""
    return Level(f"q{quality}", {"quality": quality})


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, ``q0`` to ``q100``, or None."""
    match = re.fullmatch(r"q(0|[1-9]\d?|100)", name.strip().lower(), re.ASCII)
    return quality_level(int(match[1])) if match else None


def missing(options: AvifOptions) -> Sequence[Missing]:
    """Say whether this Pillow was built without AVIF."""
    from PIL import features

    if features.check("avif"):
        return ()
    return (
        Missing(
            "AVIF in Pillow",
            "install Pillow 11.3 or later built with libavif and libaom, such as PyPI's wheels",
        ),
    )


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
            requirements=missing,
            levels=tuple(quality_level(quality) for quality in (0, 10, 30, 50)),
            parse_level=parse_level,
            level_help="q0 to q100",
        )
    )
