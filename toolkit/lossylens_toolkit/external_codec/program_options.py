"""Options and levels that codecs around H.26x encoders share; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lossylens.codec import Level
from lossylens.spec import OPERATIONAL

from lossylens_toolkit.quality import subsampling_with_colons

_MATRICES = ("bt709", "bt601", "rgb")


@dataclass
class ConversionOptions:
    """How RGB becomes what the encoder is given.

    Attributes:
        subsampling: chroma format, ``"4:4:4"`` or ``"4:2:0"``, with or without colons.
        matrix: ``bt709``, ``bt601``, or ``rgb`` to code G, B and R themselves.
        full_range: use all codes, 0..255, rather than 16..235 (chroma 16..240).
        input_depth: bits per sample that the encoder is given and the decoder
            returns, 8 or 10.

    Raises:
        ValueError: a value outside these.
    """

    subsampling: str = "4:4:4"
    matrix: str = "bt709"
    full_range: bool = True
    input_depth: int = 8

    def __post_init__(self) -> None:
        """Check the values and write the subsampling with colons."""
        self.subsampling = subsampling_with_colons(self.subsampling)
        if self.subsampling == "4:2:2":
            raise ValueError("subsampling 4:2:2 is not supported; 4:4:4 and 4:2:0 are")
        if self.matrix not in _MATRICES:
            raise ValueError(f"matrix {self.matrix!r} is not one of {', '.join(_MATRICES)}")
        if self.matrix == "rgb" and (self.subsampling != "4:4:4" or not self.full_range):
            raise ValueError("matrix 'rgb' needs subsampling 4:4:4 and full_range")
        if self.input_depth not in {8, 10}:
            raise ValueError(f"input_depth {self.input_depth} is not 8 or 10")


@dataclass
class ProgramOptions(ConversionOptions):
    """Options of a codec whose encoder and decoder are the user's programs.

    Attributes:
        encoder, decoder: the programs, or folders that hold them; by default they are
            named by environment variables, or on ``PATH``.
        extra_arguments: further arguments of the encoder, after all others.
        encoder_limit, decoder_limit: minutes per megapixel (at least one megapixel)
            after which a program is ended and the picture has failed.

    Raises:
        ValueError: a value outside its range.
    """

    # What the programs are, wherever they lie, is in the codec's provenance.
    encoder: Path | None = field(default=None, metadata=OPERATIONAL)
    decoder: Path | None = field(default=None, metadata=OPERATIONAL)
    extra_arguments: list[str] = field(default_factory=list)
    encoder_limit: float = field(default=60.0, metadata=OPERATIONAL)
    decoder_limit: float = field(default=5.0, metadata=OPERATIONAL)

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        for name in ("encoder_limit", "decoder_limit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} is not above 0")


@dataclass
class ReferenceOptions(ProgramOptions):
    """Options of HM and VTM.

    Attributes:
        config: configuration file of the encoder; by default the release's own for
            intra coding, in the folder ``cfg`` beside or above the encoder.
        internal_depth: bits per sample inside the codec; null for what the
            configuration file says.

    Raises:
        ValueError: a value outside its range.
    """

    config: Path | None = field(default=None, metadata=OPERATIONAL)
    internal_depth: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.internal_depth is not None and not 8 <= self.internal_depth <= 16:
            raise ValueError(f"internal_depth {self.internal_depth} is outside 8..16")


def qp_level(qp: int) -> Level:
    """Return the level of a quantisation parameter."""
    return Level(f"qp{qp}", {"qp": qp})


def qp_levels(*qps: int) -> tuple[Level, ...]:
    """Return levels, ascending in rate: the coarsest quantisation comes first."""
    return tuple(qp_level(qp) for qp in sorted(set(qps), reverse=True))


def qp_parser(largest: int) -> Callable[[str], Level | None]:
    """Return a function that turns ``qp0`` to ``qp<largest>`` into a level."""

    def parse_level(name: str) -> Level | None:
        match = re.fullmatch(r"qp(0|[1-9]\d?)", name.strip().lower(), re.ASCII)
        return qp_level(int(match[1])) if match and int(match[1]) <= largest else None

    return parse_level
