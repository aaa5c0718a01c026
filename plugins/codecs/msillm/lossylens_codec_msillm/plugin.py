"""Registers MS-ILLM; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lossylens.codec import CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens_toolkit.neural_codec.neural_options import (
    GenerativeCodecOptions,
    missing_checkpoint_files,
)

#: Rates that the published networks were trained for, in bits per pixel; they are in the
#: files' names.
_PUBLISHED = {
    "vlo1": 0.00218,
    "vlo2": 0.00438,
    "q1": 0.035,
    "q2": 0.07,
    "q3": 0.14,
    "q4": 0.3,
    "q5": 0.45,
    "q6": 0.9,
}

SOURCE = "https://dl.fbaipublicfiles.com/NeuralCompression/2023-muckley-msillm/"
#: Gigabytes of a file: 181 million parameters in fp32.
SIZE = 181.5e6 * 4 / 1e9


def parse_level(name: str) -> Level | None:
    """Return the level called *name*, or None."""
    name = name.strip().lower()
    return Level(name, {"target_bpp": _PUBLISHED[name]}) if name in _PUBLISHED else None


#: Those of the paper that uses them; the others are levels too.
LEVELS = tuple(Level(name, {"target_bpp": _PUBLISHED[name]}) for name in ("vlo2", "q1", "q2", "q3"))


def stems(level: Level) -> Sequence[str]:
    """Return how the published checkpoint of a level is called."""
    return (f"msillm_target_{level.parameters['target_bpp']}bpp",)


def source(level: Level) -> str:
    """Return the address of the checkpoint of a level."""
    return f"{SOURCE}{stems(level)[0]}.ckpt"


def missing(options: GenerativeCodecOptions) -> Sequence[Missing]:
    """Say which checkpoints are missing, if there is none."""
    return missing_checkpoint_files("msillm", __package__, options, LEVELS, source, stems, SIZE)


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register MS-ILLM."""
    register(
        CodecSpec(
            name="msillm",
            summary="MS-ILLM: HiFiC's network, trained against implicit local likelihoods",
            aliases=("ms-illm",),
            citation="Muckley et al., MS-ILLM, ICML 2023, arXiv:2301.11189",
            licence="Apache-2.0; the public checkpoints are CC-BY-NC-4.0, not for commercial use",
            parse_level=parse_level,
            level_help="vlo1, vlo2, q1 to q6, for which there is a checkpoint",
            factory="lossylens_codec_msillm.codec:MsillmCodec",
            category="generative",
            options=GenerativeCodecOptions,
            requirements=missing,
            levels=LEVELS,
        )
    )
