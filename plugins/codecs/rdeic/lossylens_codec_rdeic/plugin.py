"""Registers RDEIC; imports nothing heavy."""

from __future__ import annotations

import math
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
SOURCE = "the author's drive folder, linked at github.com/huai-chang/RDEIC"

#: Weights of quality in the loss, as they are in the levels' names.
_WEIGHTS = {"01": "0.1", "025": "0.25", "05": "0.5", "1": "1", "2": "2"}


@dataclass
class RdeicOptions(ControlledOptions):
    """Options of RDEIC.

    Attributes:
        guidance: 1, as published, for what the control makes of the picture; less is
            smoother, more is sharper and takes a second evaluation of the UNet.
    """

    guidance: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if not (math.isfinite(self.guidance) and abs(self.guidance) <= 100):
            raise ValueError("guidance must be a number between -100 and 100")


def weight_level(steps: int, spelt: str) -> Level:
    """Return the level of a checkpoint for so many *steps*; see :data:`_WEIGHTS`."""
    parameters = {"steps": steps, "quality_weight": float(_WEIGHTS[spelt])}
    return Level(f"step{steps}_{spelt}", parameters)


#: Those of the paper that uses them; the checkpoints for five steps are published, too.
LEVELS = tuple(weight_level(2, spelt) for spelt in ("01", "05", "1", "2"))


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, or None."""
    pattern = r"(?:rdeic_)?step([25])_(0\.?1|0\.?25|0\.?5|1|2)"
    match = re.fullmatch(pattern, name.strip().lower(), re.ASCII)
    return weight_level(int(match[1]), match[2].replace(".", "")) if match else None


def published(level: Level) -> PublishedFile:
    """Return the checkpoint of a level."""
    steps, spelt = level.name.removeprefix("step").split("_")
    return PublishedFile(f"rdeic_{_WEIGHTS[spelt]}_step{steps}.ckpt", SOURCE, "about 0.3 GB")


def missing(options: RdeicOptions) -> Sequence[Missing]:
    """Say which files are missing."""
    return missing_files("rdeic", __package__, SD21_BASE, options, LEVELS, published)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register RDEIC."""
    register(
        CodecSpec(
            name="rdeic",
            summary="RDEIC: Stable Diffusion goes on from a coded latent in two steps",
            citation="Li et al., RDEIC, IEEE TCSVT, 2025, arXiv:2410.02640",
            licence=(
                "Apache-2.0; the published code and checkpoints have no licence;"
                " Stable Diffusion 2.1: CreativeML Open RAIL++-M"
            ),
            parse_level=parse_level,
            level_help="step2_01, step2_025, step2_05, step2_1, step2_2, and step5 as well",
            factory="lossylens_codec_rdeic.codec:RdeicCodec",
            category="generative",
            options=RdeicOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
