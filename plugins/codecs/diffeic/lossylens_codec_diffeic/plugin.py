"""Registers DiffEIC; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens_toolkit.latent_diffusion.diffusion_options import (
    SD21_BASE,
    ControlledOptions,
    PublishedFile,
    missing_files,
)

#: Where the checkpoints can be had.
SOURCE = "the links at github.com/huai-chang/DiffEIC"


@dataclass
class DiffeicOptions(ControlledOptions):
    """Options of DiffEIC.

    Attributes:
        steps: of the sampler, of 1000; the official script takes 50.
    """

    steps: int = 50

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if not 1 <= self.steps <= 1000:
            raise ValueError("steps must be 1 to 1000")


def weight_level(weight: int) -> Level:
    """Return the level of a weight of the rate in the loss, ``1_2_WEIGHT``."""
    return Level(f"1_2_{weight}", {"rate_weight": weight})


#: Those of the paper that uses them; 1_2_1 is published, too.
LEVELS = tuple(map(weight_level, (16, 8, 4, 2)))


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, or None."""
    match = re.fullmatch(r"(?:diffeic_)?1_2_([1-9]\d{0,2})", name.strip().lower(), re.ASCII)
    return weight_level(int(match[1])) if match else None


def published(level: Level) -> PublishedFile:
    """Return the checkpoint of a level."""
    return PublishedFile(f"{level.name}/lc.ckpt", SOURCE, "about 0.3 GB")


def missing(options: DiffeicOptions) -> Sequence[Missing]:
    """Say which files are missing."""
    return missing_files("diffeic", __package__, SD21_BASE, options, LEVELS, published)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register DiffEIC."""
    register(
        CodecSpec(
            name="diffeic",
            summary="DiffEIC: a coded latent controls Stable Diffusion in fifty steps",
            citation="Li et al., DiffEIC, IEEE TCSVT 35(1), 2025, arXiv:2404.18820",
            licence="Apache-2.0; Stable Diffusion 2.1: CreativeML Open RAIL++-M",
            parse_level=parse_level,
            level_help="1_2_16 to 1_2_1, for which there is a checkpoint",
            factory="lossylens_codec_diffeic.codec:DiffeicCodec",
            category="generative",
            options=DiffeicOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
