"""Registers MLIC++; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens_toolkit.neural_codec.neural_options import NeuralCodecOptions, missing_checkpoints

_LOWEST, _HIGHEST = -9, 6


def quality_level(quality: int) -> Level:
    """Return the level of a checkpoint's number; q1 to q6 are the public ones."""
    return Level(f"q{quality}", {"quality": quality})


#: q1 and q2 are public; q0 and q-1 were fine-tuned down to lower rates.
LEVELS = tuple(quality_level(quality) for quality in (-1, 0, 1, 2))


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, or None."""
    match = re.fullmatch(r"q(-?\d)", name.strip().lower(), re.ASCII)
    known = match and match[1] != "-0" and _LOWEST <= int(match[1]) <= _HIGHEST
    return quality_level(int(match[1])) if match and known else None


#: Where the public checkpoints can be had.
SOURCE = "github.com/JiangWeibeta/MLIC; fine-tune q1 for the lower rates"
#: The files of q1 and q2 in gigabytes: 117 million parameters in fp32, and for each two moments
#: of Adam.
SIZE = 2 * 116.7e6 * 12 / 1e9


def stems(level: Level) -> Sequence[str]:
    """Return how the public checkpoint of a level is called."""
    return (f"mlic++_mse_{level.name}", f"mlicpp_mse_{level.name}")


def missing(options: NeuralCodecOptions) -> Sequence[Missing]:
    """Say whether there is no checkpoint."""
    return missing_checkpoints(
        "mlicpp", __package__, options, LEVELS, SOURCE, stems, gigabytes=SIZE
    )


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register MLIC++."""
    register(
        CodecSpec(
            name="mlicpp",
            summary="MLIC++: multi-reference entropy model of linear complexity",
            aliases=("mlic-pp",),
            citation="Jiang et al., MLIC++, arXiv:2307.15421",
            licence="Apache-2.0",
            parse_level=parse_level,
            level_help="q-9 to q6",
            factory="lossylens_codec_mlicpp.codec:MlicppCodec",
            category="learned",
            options=NeuralCodecOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
