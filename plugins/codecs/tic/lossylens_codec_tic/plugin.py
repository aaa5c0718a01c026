"""Registers TIC; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens_toolkit.neural_codec.neural_options import (
    NANO,
    NeuralCodecOptions,
    lambda_level,
    missing_checkpoints,
)

#: The network with a hyperprior alone, and the one of the paper, with a serial context.
HP, SERIAL = "hp", "serial"

#: Lagrangian multipliers of the mean squared error on the scale of 0..255.
LEVELS = tuple(
    Level(f"lambda{value}", {"lambda": float(value)})
    for value in ("0.0018", "0.0035", "0.0067", "0.013")
)


@dataclass
class TicOptions(NeuralCodecOptions):
    """Options of TIC.

    Attributes:
        variant: ``hp`` for the network of TransTIC, with a hyperprior alone, the one that has
            public checkpoints; ``serial`` for that of TIC's authors, whose context model goes
            from position to position; or ``nano`` for small ones of the former in the plugin's
            package, for demonstrations and tests.
    """

    variants: ClassVar[tuple[str, ...]] = (HP, SERIAL, NANO)

    variant: str = HP


def parse_level(name: str) -> Level | None:
    """Return the level of a multiplier, a published one however it is written, or None."""
    level = lambda_level(name)
    return next((each for each in LEVELS if level and each.parameters == level.parameters), level)


def stems(level: Level) -> Sequence[str]:
    """Return how the public checkpoint of a level is called."""
    return (f"base_codec_{LEVELS.index(level) + 1}",) if level in LEVELS else ()


#: Where the public checkpoints can be had.
SOURCE = "github.com/NYCU-MAPL/TransTIC (release v1.0, base_codec_1 to 4.pth.tar; Apache-2.0)"
#: Four files in gigabytes: 7.5 million parameters in fp32, and for each two moments of Adam.
SIZE = 4 * 7.5e6 * 12 / 1e9
#: Of the serial network.
NO_SOURCE = "your own training of github.com/lumingzzz/TIC (Apache-2.0), which publishes none"


def missing(options: TicOptions) -> Sequence[Missing]:
    """Say whether there is no checkpoint."""
    source, size = (NO_SOURCE, 0.0) if options.variant == SERIAL else (SOURCE, SIZE)
    return missing_checkpoints("tic", __package__, options, LEVELS, source, stems, size)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register TIC."""
    register(
        CodecSpec(
            name="tic",
            summary="TIC: transforms of window attention and convolutions",
            citation="Lu et al., Transformer-based Image Compression, DCC 2022,"
            " arXiv:2111.06707; Chen et al., TransTIC, ICCV 2023, arXiv:2306.05085",
            licence="Apache-2.0; the public checkpoints: Apache-2.0",
            parse_level=parse_level,
            level_help="lambda0.0018 and the like, for which there is a checkpoint",
            factory="lossylens_codec_tic.codec:TicCodec",
            category="learned",
            options=TicOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
