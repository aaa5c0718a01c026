"""Registers TCM; imports nothing heavy."""

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
    for value in ("0.0005", "0.0010", "0.0018", "0.0025")
)


def parse_level(name: str) -> Level | None:
    """Return the level of a multiplier, a published one however it is written, or None."""
    level = lambda_level(name)
    return next((each for each in LEVELS if level and each.parameters == level.parameters), level)


#: Where the public checkpoints can be had.
SOURCE = "github.com/jmliu206/LIC_TCM; fine-tune 0.0025 for the lower rates"
#: The file of 0.0025 in gigabytes: 45 million parameters in fp32, and for each two moments of
#: Adam.
SIZE = 45.2e6 * 12 / 1e9


def missing(options: NeuralCodecOptions) -> Sequence[Missing]:
    """Say whether there is no checkpoint."""
    return missing_checkpoints("tcm", __package__, options, LEVELS, SOURCE, gigabytes=SIZE)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register TCM."""
    register(
        CodecSpec(
            name="tcm",
            summary="TCM: mixed transformer-CNN transforms",
            citation="Liu et al., Learned Image Compression with Mixed Transformer-CNN"
            " Architectures, CVPR 2023, arXiv:2303.14978",
            licence="Apache-2.0; the public checkpoints: MIT",
            parse_level=parse_level,
            level_help="lambda0.0025 and the like, for which there is a checkpoint",
            factory="lossylens_codec_tcm.codec:TcmCodec",
            category="learned",
            options=NeuralCodecOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
