"""Images that are padded to squares, and what a square shows of an image."""

from __future__ import annotations

from collections.abc import Sequence

import PIL.Image
from lossylens.images import MAX_PIXELS
from lossylens.vlm import Box
from PIL.Image import Image


def padded(image: Image, mean: Sequence[float]) -> Image:
    """Return *image* in the middle of a square whose colour is *mean* (0 to 1).

    This is what LLaVA's own code and the reference evaluator do; the image processor of the
    published checkpoints crops instead, and a photo of 640x480 loses a quarter.

    Raises:
        ValueError: it is so long and narrow that the square has too many pixels.
    """
    side = max(image.size)
    if side * side > MAX_PIXELS:
        raise ValueError(
            f"{image.width}x{image.height} becomes a square of more than {MAX_PIXELS} pixels"
        )
    square = PIL.Image.new("RGB", (side, side), _colour(mean))
    square.paste(image, _offset(image.size))
    return square


def _colour(mean: Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (int(255 * each) for each in mean)
    return red, green, blue


def _offset(size: tuple[int, int]) -> tuple[int, int]:
    side = max(size)
    return (side - size[0]) // 2, (side - size[1]) // 2


def padded_box(size: tuple[int, int]) -> Box:
    """Return the sides of the square that :func:`padded` returns, as fractions of the image."""
    (width, height), (x, y), side = size, _offset(size), max(size)
    return -x / width, -y / height, (side - x) / width, (side - y) / height


def cropped_box(size: tuple[int, int]) -> Box:
    """Return the sides of the largest square in the middle of an image, as fractions of it."""
    (width, height), side = size, min(size)
    x, y = (width - side) / 2 / width, (height - side) / 2 / height
    return x, y, 1 - x, 1 - y
