"""Registers HiFiC; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens_toolkit.neural_codec.neural_options import (
    GenerativeCodecOptions,
    missing_checkpoint_files,
)

#: Levels that lie below ``low``: the paper fine-tuned it, nobody has published the files.
_LOWEST = 9

#: Rates that the published networks were trained for, in bits per pixel.
_PUBLISHED = {"low": 0.14, "med": 0.30, "hi": 0.45}

SOURCE = "https://zenodo.org/records/4026003/files/"
#: Gigabytes of a file at most: networks and the states of their optimisers.
SIZE = 2.0


def _level(name: str) -> Level:
    target = _PUBLISHED.get(name)
    # Half the target of the level above, as MS-ILLM does.
    return Level(name, {"target_bpp": target or _PUBLISHED["low"] / 2 ** int(name[3:])})


#: Those of the paper that uses them; ``med`` and ``hi`` are levels too.
LEVELS = tuple(map(_level, ("low3", "low2", "low1", "low")))


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, or None."""
    name = name.strip().lower()
    known = name in _PUBLISHED or re.fullmatch(rf"low[1-{_LOWEST}]", name, re.ASCII)
    return _level(name) if known else None


def stems(level: Level) -> Sequence[str]:
    """Return how the published checkpoint of a level is called."""
    return (f"hific_{level.name}",)


def source(level: Level) -> str:
    """Return the address of the checkpoint of a level, or how it is made."""
    if level.name in _PUBLISHED:
        return f"{SOURCE}hific_{level.name}.pt"
    return "it is not published; make it with lossylens train codec hific, from hific_low.pt"


def missing(options: GenerativeCodecOptions) -> Sequence[Missing]:
    """Say which checkpoints are missing, if there is none."""
    return missing_checkpoint_files("hific", __package__, options, LEVELS, source, stems, SIZE)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register HiFiC."""
    register(
        CodecSpec(
            name="hific",
            summary="HiFiC: a generative adversarial network, in the PyTorch version of J. Tan",
            citation="Mentzer et al., HiFiC, NeurIPS 2020, arXiv:2006.09965",
            licence="Apache-2.0; the public checkpoints too",
            parse_level=parse_level,
            level_help="low, med, hi; low1 to low9 below them, for which there is a checkpoint",
            factory="lossylens_codec_hific.codec:HificCodec",
            category="generative",
            options=GenerativeCodecOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
