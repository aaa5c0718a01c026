"""Registers StableCodec; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens_toolkit.latent_diffusion.diffusion_options import (
    SD_TURBO,
    LatentDiffusionOptions,
    PublishedFile,
    missing_files,
)

#: Where the checkpoints can be had.
SOURCE = "the links at github.com/LuizScarlet/StableCodec"

#: The weights of the auxiliary encoder, those of a whole ELIC.
AUXILIARY = PublishedFile(
    "elic_official.pth", "the links at github.com/LuizScarlet/StableCodec", "about 0.14 GB"
)


def weight_level(weight: int) -> Level:
    """Return the level of a weight of the rate in the loss, ``ftWEIGHT``."""
    return Level(f"ft{weight}", {"rate_weight": weight})


#: Those of the paper that uses them; 3, 6, 12, 24 and 32 are published, too.
LEVELS = tuple(map(weight_level, (16, 8, 4, 2)))


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, or None."""
    match = re.fullmatch(r"(?:stablecodec_)?ft([1-9]\d{0,2})", name.strip().lower(), re.ASCII)
    return weight_level(int(match[1])) if match else None


def published(level: Level) -> PublishedFile:
    """Return the checkpoint of a level."""
    return PublishedFile(f"stablecodec_{level.name}.pkl", SOURCE, "about 0.4 GB")


def missing(options: LatentDiffusionOptions) -> Sequence[Missing]:
    """Say which files are missing."""
    return missing_files(
        "stablecodec", __package__, SD_TURBO, options, LEVELS, published, [AUXILIARY]
    )


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register StableCodec."""
    register(
        CodecSpec(
            name="stablecodec",
            summary="StableCodec: SD-Turbo denoises a coded latent in one step",
            citation="Zhang et al., StableCodec, ICCV 2025, arXiv:2506.21977",
            licence="MIT; SD-Turbo: Stability AI Community License",
            parse_level=parse_level,
            level_help="ft32 to ft2, for which there is a checkpoint",
            factory="lossylens_codec_stablecodec.codec:StableCodecCodec",
            category="generative",
            options=LatentDiffusionOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
