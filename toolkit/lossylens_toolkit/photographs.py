"""Photographs at hand without a download: files that scikit-image and scikit-learn ship.

Scenes are cut from them, and codecs and adaptors are trained on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from lossylens.errors import ConfigError
from lossylens.names import suggestion

if TYPE_CHECKING:
    from PIL.Image import Image

PhotographSet = Literal["all", "held-in", "held-out"]
PHOTOGRAPH_SETS: tuple[PhotographSet, ...] = ("all", "held-in", "held-out")


@dataclass(frozen=True)
class Photograph:
    """One picture with its origin.

    `width` and `height` are in pixels; they are repeated here so that a scene can be sampled
    without opening the file.  Grey pictures are tinted when drawn.
    """

    name: str
    package: str
    path: str
    width: int
    height: int
    grey: bool
    author: str
    licence: str


_SKIMAGE = "skimage"
_SKLEARN = "sklearn"

_ALL: Final[tuple[Photograph, ...]] = (
    Photograph(
        "astronaut", _SKIMAGE, "data/astronaut.png", 512, 512, False, "NASA", "public domain"
    ),
    Photograph(
        "chelsea", _SKIMAGE, "data/chelsea.png", 451, 300, False, "Stefan van der Walt", "CC0"
    ),
    Photograph("coffee", _SKIMAGE, "data/coffee.png", 600, 400, False, "Rachel Michetti", "CC0"),
    Photograph("rocket", _SKIMAGE, "data/rocket.jpg", 640, 427, False, "SpaceX", "public domain"),
    Photograph(
        "hubble", _SKIMAGE, "data/hubble_deep_field.jpg", 1000, 872, False, "NASA", "public domain"
    ),
    Photograph("retina", _SKIMAGE, "data/retina.jpg", 1411, 1411, False, "Mikael Häggström", "CC0"),
    Photograph("camera", _SKIMAGE, "data/camera.png", 512, 512, True, "Lav Varshney", "CC0"),
    Photograph("brick", _SKIMAGE, "data/brick.png", 512, 512, True, "CC0Textures", "CC0"),
    Photograph("grass", _SKIMAGE, "data/grass.png", 512, 512, True, "linolafett", "CC0"),
    Photograph("gravel", _SKIMAGE, "data/gravel.png", 512, 512, True, "CC0Textures", "CC0"),
    Photograph(
        "china",
        _SKLEARN,
        "datasets/images/china.jpg",
        640,
        427,
        False,
        "danielbuechele",
        "CC BY 2.0",
    ),
    Photograph(
        "flower", _SKLEARN, "datasets/images/flower.jpg", 640, 427, False, "vultilion", "CC BY 2.0"
    ),
)

PHOTOGRAPHS: Final[Mapping[str, Photograph]] = MappingProxyType({p.name: p for p in _ALL})

HELD_OUT: Final[tuple[str, ...]] = ("chelsea", "flower")
"""Photographs that `held-in` leaves out and to which `held-out` is restricted."""


def photograph_names(which: PhotographSet) -> tuple[str, ...]:
    """Names of the photographs of a set, in a fixed order."""
    if which == "all":
        return tuple(PHOTOGRAPHS)
    if which == "held-in":
        return tuple(name for name in PHOTOGRAPHS if name not in HELD_OUT)
    if which == "held-out":
        return HELD_OUT
    raise ValueError(f"unknown set of photographs {which!r}; known: all, held-in, held-out")


def check_photographs(name: str) -> PhotographSet:
    """The name of a set of photographs, or ConfigError."""
    for known in PHOTOGRAPH_SETS:
        if name == known:
            return known
    raise ConfigError(f"unknown set of photographs {name!r}. {suggestion(name, PHOTOGRAPH_SETS)}")


def photograph_path(name: str) -> Path:
    """Where the installed package keeps the file; the package itself is not imported."""
    photograph = PHOTOGRAPHS[name]
    spec = find_spec(photograph.package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"photograph {name!r} comes with the package {photograph.package!r},"
            " which is not installed"
        )
    return Path(spec.submodule_search_locations[0]) / photograph.path


@lru_cache(maxsize=len(_ALL))
def load_photograph(name: str) -> Image:
    """The decoded picture, mode RGB or (grey ones) L.  Shared: do not modify it."""
    # Listing plugins imports this module, and no pictures.
    from PIL import Image

    photograph = PHOTOGRAPHS[name]
    with Image.open(photograph_path(name)) as opened:
        image = opened.convert("L" if photograph.grey else "RGB")
    if image.size != (photograph.width, photograph.height):
        raise ValueError(
            f"{photograph_path(name)} is {image.size[0]}x{image.size[1]} pixels,"
            f" expected {photograph.width}x{photograph.height}:"
            f" another version of {photograph.package}?"
        )
    return image
