"""Registers ELIC; imports nothing heavy."""

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

#: Named as the public checkpoints are, whose multipliers seem to be ten times those of
#: the paper's loss.
LEVELS = tuple(
    Level(f"lambda{value}", {"lambda": float(value)})
    for value in ("0.004", "0.008", "0.016", "0.032")
)

#: Where the public checkpoints can be had.
SOURCE = "github.com/VincentChandelier/ELiC-ReImplemetation"
#: Four files in gigabytes: 34 million parameters in fp32.
SIZE = 4 * 33.8e6 * 4 / 1e9


def stems(level: Level) -> Sequence[str]:
    """Return how the public checkpoint of a level is called: ``ELIC_0450_...`` for 0.45."""
    return (f"ELIC_{round(1000 * float(level.parameters['lambda'])):04d}_*",)


def missing(options: NeuralCodecOptions) -> Sequence[Missing]:
    """Say whether there is no checkpoint."""
    return missing_checkpoints("elic", __package__, options, LEVELS, SOURCE, stems, gigabytes=SIZE)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register ELIC."""
    register(
        CodecSpec(
            name="elic",
            summary="ELIC, the public re-implementation of 2023",
            citation="He et al., ELIC, CVPR 2022, arXiv:2203.10886",
            licence="Apache-2.0; the public checkpoints have no licence",
            parse_level=lambda_level,
            level_help="lambda0.004 and the like, for which there is a checkpoint",
            factory="lossylens_codec_elic.codec:ElicCodec",
            category="learned",
            options=NeuralCodecOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
