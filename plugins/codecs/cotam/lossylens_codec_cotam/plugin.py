"""Registers CoTAM's codecs; imports nothing heavy."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lossylens.codec import CodecSpec, Level
from lossylens.errors import RequirementError
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing, path_if
from lossylens_toolkit.clip import clip_checkpoint
from lossylens_toolkit.neural_codec.neural_options import (
    NANO,
    VARIABLE_RATE,
    NeuralCodecOptions,
    checkpoint_folder,
    find_checkpoint,
    lambda_level,
)


def _levels(*names: str) -> tuple[Level, ...]:
    return tuple(Level(f"lambda{name}", {"lambda": float(name)}) for name in names)


#: The paper's ten, of appendix A.3: weights of the rate against the squared error.
LEVELS = _levels(
    *("0.0128", "0.0064", "0.0032", "0.0016", "0.0008"),
    *("0.0004", "0.0002", "0.0001", "0.00005", "0.00002"),
)

#: Those of the nano checkpoints, in the same series.
NANO_LEVELS = _levels("0.2048", "0.1024", "0.0512", "0.0256", "0.0128", "0.0064", "0.0032")


#: Hosts that cut pictures into tiles, and how many tiles each takes at most by default.
INTERNVL, LLAVA_ONEVISION = "internvl", "llava-onevision"
TILE_LIMITS = {INTERNVL: 6, LLAVA_ONEVISION: 36}

#: Most tiles of a map.
_MOST_TILES = 64


@dataclass
class CotamOptions(NeuralCodecOptions):
    """Options of CoTAM's codecs.

    Attributes:
        guidance: where a picture is coded one level better or worse: ``clip``, where CLIP
            looks; ``tiles``, where it looks at the picture and at tiles of it, for hosts that
            cut pictures; ``maps``, as a file says; or ``none``, for the same network at one
            level.
        clip: hub id or folder of CLIP, or the short name of an installed one.
        layers: of CLIP's image encoder, counted from 0; their attention is averaged.
        threshold: how many standard deviations from the mean a cell's attention must be.
        maps: for ``guidance: maps``, a JSON file with the map of each picture, as
            ``lossylens_codec_cotam.guidance_map.write_maps`` writes it.
        tiles: for ``guidance: tiles``, how a picture is cut: as a host does, ``internvl`` or
            ``llava-onevision``, or always into ``COLUMNSxROWS``, such as ``3x2``.
        most_tiles: of a host's rule; by default 6 of InternVL and 36 of LLaVA-OneVision.

    Raises:
        ValueError: a value that is none of these.
    """

    guidance: Literal["clip", "tiles", "maps", "none"] = "clip"
    clip: str = field(
        default=clip_checkpoint.LARGE_336, metadata=path_if(lambda text: Path(text).is_dir())
    )
    layers: list[int] = field(default_factory=lambda: [0, 1, 2])
    threshold: float = 0.75
    maps: Path | None = None
    tiles: str = ""
    most_tiles: int | None = None

    @property
    def guides_by_clip(self) -> bool:
        """Whether CLIP is needed to encode."""
        return self.guidance in ("clip", "tiles")

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if not self.layers or min(self.layers) < 0:
            raise ValueError("layers must be one or more numbers, counted from 0")
        if not 0 <= self.threshold < 10:
            raise ValueError(f"threshold must be 0 to 10, got {self.threshold}")
        if (self.guidance == "maps") != (self.maps is not None):
            raise ValueError("guidance maps and the file maps go together")
        if (self.guidance == "tiles") != bool(self.tiles):
            raise ValueError("guidance tiles and the option tiles go together")
        if self.tiles and self.tiles not in TILE_LIMITS:
            self._check_grid()
        if self.most_tiles is not None and not 1 <= self.most_tiles <= _MOST_TILES:
            raise ValueError(f"most_tiles must be 1 to {_MOST_TILES}, got {self.most_tiles}")
        if self.most_tiles is not None and self.tiles not in TILE_LIMITS:
            raise ValueError("most_tiles is for the rule of a host")

    def _check_grid(self) -> None:
        found = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", self.tiles, re.ASCII)
        if found is None or int(found[1]) * int(found[2]) > _MOST_TILES:
            raise ValueError(
                f"tiles must be {', '.join(TILE_LIMITS)} or COLUMNSxROWS, at most {_MOST_TILES}"
                f" together, got {self.tiles!r}"
            )


def _requirements(codec: str) -> Callable[[CotamOptions], Sequence[Missing]]:
    def missing(options: CotamOptions) -> Sequence[Missing]:
        """Say what of checkpoint and guidance is not here."""
        lacking: list[Missing] = []
        folder = checkpoint_folder(codec, __package__, options)
        nano = options.variant == NANO
        try:
            find_checkpoint(folder, Level(codec if nano else VARIABLE_RATE))
        except RequirementError:
            remedy = "none is published: train one with `lossylens train codec`, and "
            if nano:
                remedy += "name its folder in checkpoints, without variant"
            else:
                remedy += f"put it into {folder} as {VARIABLE_RATE}.safetensors"
            lacking.append(Missing(f"{options.variant} checkpoint of {codec}", remedy))
        if options.guides_by_clip:
            lacking += clip_checkpoint.missing(options.clip)
        elif options.maps is not None and not options.maps.is_file():
            lacking.append(Missing(f"file of guidance maps {options.maps}", "write it first"))
        return tuple(lacking)

    return missing


def _with_its_levels(
    spec: CodecSpec, options: CotamOptions, registry: Any, place: str
) -> tuple[CodecSpec, CotamOptions]:
    """Return the declaration with the levels of the nano checkpoints, where these are meant."""
    return (replace(spec, levels=NANO_LEVELS) if options.variant == NANO else spec), options


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register the codecs."""
    for base in ("elic", "dcae"):
        name = f"cotam-{base}"
        spec = CodecSpec(
            name=name,
            summary=f"{base.upper()} with many rates in one network, better where CLIP looks",
            citation="Liu et al., arXiv:2509.24258, ICLR 2026",
            licence="Apache-2.0",
            parse_level=lambda_level,
            level_help="lambda0.0008 and the like, within those of the checkpoint",
            factory=f"lossylens_codec_cotam.codec:Cotam{base.capitalize()}Codec",
            category="learned",
            options=CotamOptions,
            requirements=_requirements(name),
            levels=LEVELS,
            level_sets={NANO: tuple(level.name for level in NANO_LEVELS)},
        )
        register(replace(spec, compose=functools.partial(_with_its_levels, spec)))
