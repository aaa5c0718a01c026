"""The step that scales pictures down."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lossylens.codec import Level
from lossylens.errors import ConfigError
from lossylens.names import suggestion
from PIL import Image

#: What may be bounded: the longest side, the shortest side, or the pixels of the picture.
BOUNDS = ("longest", "shortest", "pixels")

#: How names of levels are written, for error messages.
LEVEL_HELP = ", ".join(f"{bound}N" for bound in BOUNDS)

#: Filters by name; the first is the default.
FILTERS = {each.name.lower(): each for each in (Image.Resampling.LANCZOS, *Image.Resampling)}


@dataclass(frozen=True)
class Scaling:
    """How a picture is scaled down; none is made larger.

    Attributes:
        bound: member of :data:`BOUNDS`.
        most: of it, in pixels.
        resample: member of :data:`FILTERS`.
    """

    bound: str
    most: int
    resample: str

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size that a picture is scaled to; its sides are rounded."""
        if self.bound == "pixels":
            factor = math.sqrt(self.most / (width * height))
        else:
            factor = self.most / (max if self.bound == "longest" else min)(width, height)
        if factor >= 1:
            return width, height
        return max(1, round(factor * width)), max(1, round(factor * height))

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return *image* scaled down."""
        size = self.size(*image.size)
        return image if size == image.size else image.resize(size, FILTERS[self.resample])


def scaling_level(name: str) -> Level | None:
    """Return the level of a name such as ``longest1024``, None if it is none."""
    match = re.fullmatch(rf"({'|'.join(BOUNDS)})([1-9]\d{{0,8}})", name.strip().lower(), re.ASCII)
    return Level(match[0], {"bound": match[1], "most": int(match[2])}) if match else None


def scaling_options(given: Mapping[str, Any], where: str) -> tuple[Level | None, str]:
    """Return the level that the options of the step name, if they do, and the filter.

    Raises:
        ConfigError: they are wrong.
    """
    for key in given:
        if key not in (*BOUNDS, "level", "resample"):
            hint = suggestion(str(key), (*BOUNDS, "resample"))
            raise ConfigError(f"{where}.{key}: unknown option. {hint}")
    bounds = [bound for bound in BOUNDS if bound in given]
    if len(bounds) + ("level" in given) > 1:
        raise ConfigError(f"{where}: name one of {', '.join(BOUNDS)}.")
    resample = str(given.get("resample", next(iter(FILTERS)))).lower()
    if resample not in FILTERS:
        raise ConfigError(f"{where}.resample: {resample!r} is none of {', '.join(FILTERS)}.")
    name = given.get("level")
    for bound in bounds:
        most = given[bound]
        if isinstance(most, bool) or not isinstance(most, int | str) or not str(most).isdecimal():
            raise ConfigError(f"{where}.{bound}: expected a number of pixels, got {most!r}.")
        name = f"{bound}{most}"
    if name is None:
        return None, resample
    level = scaling_level(str(name))
    if level is None:
        raise ConfigError(f"{where}: no level {name!r}. Accepted: {LEVEL_HELP}, N from 1.")
    return level, resample
