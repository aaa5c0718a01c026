"""Registers DCAE; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens_toolkit.neural_codec.neural_options import (
    NeuralCodecOptions,
    lambda_level,
    missing_checkpoints,
)

#: Lagrangian multipliers of the mean squared error on the scale of 0..255.
LEVELS = tuple(
    Level(f"lambda{value}", {"lambda": float(value)})
    for value in ("0.0018", "0.0035", "0.0067", "0.013", "0.025", "0.05")
)


def parse_level(name: str) -> Level | None:
    """Return the level of a multiplier, a published one however it is written, or None."""
    level = lambda_level(name)
    return next((each for each in LEVELS if level and each.parameters == level.parameters), level)


#: Where the public checkpoints can be had.
SOURCE = "github.com/LabShuHangGU/DCAE (links in its README; MIT)"
#: Six files in gigabytes: 119 million parameters in fp32, and for each two moments of Adam.
SIZE = 6 * 119.4e6 * 12 / 1e9


def missing(options: NeuralCodecOptions) -> Sequence[Missing]:
    """Say whether there is no checkpoint."""
    return missing_checkpoints("dcae", __package__, options, LEVELS, SOURCE, gigabytes=SIZE)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register DCAE."""
    register(
        CodecSpec(
            name="dcae",
            summary="DCAE: an entropy model with a learned dictionary",
            citation="Lu et al., Learned Image Compression with Dictionary-based Entropy Model,"
            " CVPR 2025, arXiv:2504.00496",
            licence="Apache-2.0; the public checkpoints: MIT",
            parse_level=parse_level,
            level_help="lambda0.0018 and the like, for which there is a checkpoint",
            factory="lossylens_codec_dcae.codec:DcaeCodec",
            category="learned",
            options=NeuralCodecOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
