"""Registers x265; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.external_codec.program_options import ConversionOptions, qp_levels, qp_parser

LARGEST_QP = 51

PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)


@dataclass
class X265Options(ConversionOptions):
    """Options of x265.

    Attributes:
        preset: effort, from ``ultrafast`` to ``placebo``.

    Raises:
        ValueError: a value outside these.
    """

    preset: str = "veryslow"

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} is not one of {', '.join(PRESETS)}")


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register x265."""
    register(
        CodecSpec(
            name="hevc-x265",
            aliases=("x265",),
            summary="HEVC intra pictures by x265, through PyAV; not HM",
            factory="lossylens_codec_hevc_x265.codec:X265",
            category="traditional",
            citation="ITU-T H.265 | ISO/IEC 23008-2; x265",
            licence="Apache-2.0; x265 in PyAV's wheels is GPL-2.0-or-later",
            options=X265Options,
            levels=qp_levels(51, 50, 49, 47, 45, 42, 40),
            parse_level=qp_parser(LARGEST_QP),
            level_help=f"qp0 to qp{LARGEST_QP}",
        )
    )
