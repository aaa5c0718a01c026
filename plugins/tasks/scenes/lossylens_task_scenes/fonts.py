"""The fonts of rendered words, taken from the files that matplotlib ships."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from lossylens_task_scenes.vocabulary import FONTS

_MEASURE_EM = 200


@lru_cache(maxsize=1)
def font_folder() -> Path:
    """Folder of matplotlib's TrueType files, found without importing matplotlib."""
    spec = find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("matplotlib, whose fonts the scenes use, is not installed")
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


@lru_cache(maxsize=256)
def load_font(name: str, em: int) -> ImageFont.FreeTypeFont:
    """The font called `name` (a key of FONTS) at `em` pixels per em."""
    # The basic layout engine gives the same glyph positions with and without libraqm.
    return ImageFont.truetype(
        str(font_folder() / FONTS[name]), em, layout_engine=ImageFont.Layout.BASIC
    )


@lru_cache(maxsize=4096)
def _ink(name: str, text: str) -> tuple[float, float]:
    left, top, right, bottom = load_font(name, _MEASURE_EM).getbbox(text)
    return right - left, bottom - top


@lru_cache(maxsize=64)
def cap_height(name: str) -> float:
    """Height of a flat capital letter, in em."""
    return _ink(name, "H")[1] / _MEASURE_EM


def em_for_height(name: str, height: float) -> float:
    """Pixels per em at which capitals are `height` pixels high."""
    return height / cap_height(name)


def text_extent(name: str, text: str, height: float) -> tuple[int, int]:
    """Width and height in whole pixels of the ink of `text` with capitals `height` pixels high.

    Measured at one large size and scaled, so that hinting at small sizes has no influence and the
    layout of a scene does not depend on the version of FreeType.
    """
    width, tall = _ink(name, text)
    scale = em_for_height(name, height) / _MEASURE_EM
    return math.ceil(width * scale), math.ceil(tall * scale)
