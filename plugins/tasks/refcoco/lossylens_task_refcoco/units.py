"""What the numbers of a box are, where it is known which model wrote them.

The reference evaluator guesses it from their size; see :mod:`~lossylens_task_refcoco.reading`.
"""

from __future__ import annotations

import math
from typing import Literal

from lossylens_task_refcoco.reading import Corners, scaled, within

#: ``resized``: pixels of the picture as Qwen2.5-VL scales it; ``square``: fractions of the
#: picture padded to a square, as LLaVA-1.5 and Shikra see it.
Units = Literal["guessed", "fractions", "thousandths", "pixels", "square", "resized"]

#: Sides of the pictures that Qwen2.5-VL takes are multiples of this.
_STEP = 28


def in_units(
    numbers: Corners, units: Units, width: float, height: float, pixels: tuple[int, int]
) -> Corners:
    """Return the box that *numbers* in *units* mean, in pixels of the picture, cut to it.

    Args:
        numbers: of the box.
        units: what they are; not ``guessed``.
        width: of the picture.
        height: of the picture.
        pixels: fewest and most that Qwen2.5-VL was set to, for ``resized``.
    """
    box = numbers
    if units == "fractions":
        box = scaled(numbers, width, height)
    elif units == "thousandths":
        box = scaled(numbers, width / 1000, height / 1000)
    elif units == "square":
        side = max(width, height)
        x, y = (side - width) // 2, (side - height) // 2
        left, top, right, bottom = scaled(numbers, side, side)
        box = left - x, top - y, right - x, bottom - y
    elif units == "resized":
        across, down = resized(width, height, *pixels)
        box = scaled(numbers, width / across, height / down)
    return within(box, width, height)


def resized(width: float, height: float, fewest: int, most: int) -> tuple[int, int]:
    """Return the width and height to which Qwen2.5-VL scales a picture.

    Both are multiples of 28, nearly in proportion, with *fewest* to *most* pixels.
    """
    across, down = (max(_STEP, round(side / _STEP) * _STEP) for side in (width, height))
    if across * down > most:
        factor = math.sqrt(width * height / most)
        sides = (math.floor(side / factor / _STEP) * _STEP for side in (width, height))
        across, down = (max(_STEP, side) for side in sides)
    elif across * down < fewest:
        factor = math.sqrt(fewest / (width * height))
        across, down = (math.ceil(side * factor / _STEP) * _STEP for side in (width, height))
    return across, down
