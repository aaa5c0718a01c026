"""Several images on one sheet, for questions that are about all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

#: Width of a sheet in pixels, and the most images on one.
WIDTH, MOST = 348, 36

_GAP = 4


def sheet(images: Sequence[tuple[int, Image.Image]]) -> Image.Image:
    """Return *images* row by row, scaled down to one size, each with its number.

    Args:
        images: number and RGB image; of more than :data:`MOST`, some are left out evenly.
    """
    shown = images
    if len(images) > MOST:
        shown = [images[place * len(images) // MOST] for place in range(MOST)]
    columns = math.ceil(math.sqrt(len(shown)))
    side = WIDTH // columns - _GAP
    scaled = [(number, _within(image, side)) for number, image in shown]
    height = max(image.height for _, image in scaled) + _GAP
    rows = -(-len(scaled) // columns)
    made = Image.new("RGB", (columns * (side + _GAP), rows * height), "white")
    draw = ImageDraw.Draw(made)
    for place, (number, image) in enumerate(scaled):
        corner = (place % columns * (side + _GAP), place // columns * height)
        made.paste(image, corner)
        box = draw.textbbox(corner, str(number))
        draw.rectangle((*corner, box[2] + 2, box[3] + 2), fill="black")
        draw.text((corner[0] + 1, corner[1]), str(number), fill="white")
    return made


def _within(image: Image.Image, side: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((side, side))
    return small
