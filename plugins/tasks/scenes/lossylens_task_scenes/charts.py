"""Bar charts with known values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from lossylens_task_scenes.fonts import em_for_height, load_font
from lossylens_task_scenes.vocabulary import COLOR_VALUES, COLORS, WORDS

LARGEST: Final = 20
"""Values are 2 to this."""

_STEP = 5
_FINE = 4
_FONT = "sans-bold"
_INK = (40, 40, 40)
_GRID = (205, 205, 205)
_PAPER = (252, 252, 250)
_NAMES: Final = tuple(word for word in WORDS if len(word) == 3)


@dataclass(frozen=True)
class Chart:
    """A bar chart of `size` x `size` pixels: each bar has a name, a colour and a whole number."""

    names: tuple[str, ...]
    colors: tuple[str, ...]
    values: tuple[int, ...]
    size: int


def make_chart(seed: int, index: int, size: int) -> Chart:
    """Chart number `index` of the sequence `seed`: 3 to 5 bars, nothing of which occurs twice."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 2])))
    count = int(rng.integers(3, 6))
    return Chart(
        tuple(_NAMES[k] for k in rng.permutation(len(_NAMES))[:count].tolist()),
        tuple(COLORS[k] for k in rng.permutation(len(COLORS))[:count].tolist()),
        tuple(2 + k for k in rng.permutation(LARGEST - 1)[:count].tolist()),
        size,
    )


def draw_chart(chart: Chart) -> Image.Image:
    """The chart as an RGB image, each value above its bar and each name below."""
    side = chart.size * _FINE
    canvas = Image.new("RGB", (side, side), _PAPER)
    pen = ImageDraw.Draw(canvas)
    font = load_font(_FONT, round(em_for_height(_FONT, 0.042 * side)))
    left, top, right, bottom = 0.12 * side, 0.1 * side, 0.97 * side, 0.88 * side

    def height(value: int) -> float:
        return bottom - (bottom - top) * value / LARGEST

    for value in range(0, LARGEST + 1, _STEP):
        y = height(value)
        pen.line([(left, y), (right, y)], _INK if value == 0 else _GRID, _FINE)
        pen.text((left - 0.02 * side, y), str(value), _INK, font, anchor="rm")
    slot = (right - left) / len(chart.values)
    for k, (name, color, value) in enumerate(
        zip(chart.names, chart.colors, chart.values, strict=True)
    ):
        middle = left + (k + 0.5) * slot
        box = [middle - 0.3 * slot, height(value), middle + 0.3 * slot, bottom]
        pen.rectangle(box, COLOR_VALUES[color], _INK, _FINE)
        pen.text((middle, height(value) - 0.02 * side), str(value), _INK, font, anchor="mb")
        pen.text((middle, bottom + 0.03 * side), name, _INK, font, anchor="mt")
    return canvas.reduce(_FINE)
