"""From the numbers that a family writes for a box to fractions of the image."""

from __future__ import annotations

from lossylens.vlm import Box

from lossylens_toolkit.written_boxes import Numbers

#: The numbers mean the whole image where they are 0, 0 and these.
Sides = tuple[float, float]


def as_fractions(numbers: Numbers, sides: Sides) -> Box:
    """Return the box of *numbers*, in an image of *sides*, as fractions, cut to the image."""
    width, height = sides
    left, top, right, bottom = numbers
    return (_cut(left / width), _cut(top / height), _cut(right / width), _cut(bottom / height))


def from_part(numbers: Numbers, part: Box) -> Box:
    """Return the box of *numbers*, fractions of *part* of an image, as fractions of the image.

    Args:
        numbers: of the box.
        part: its sides as fractions of the image, beyond 0 to 1 where that was padded.
    """
    x, y, right, bottom = part
    width, height = right - x, bottom - y
    x1, y1, x2, y2 = numbers
    return (
        _cut(x + x1 * width),
        _cut(y + y1 * height),
        _cut(x + x2 * width),
        _cut(y + y2 * height),
    )


def _cut(fraction: float) -> float:
    return min(max(fraction, 0.0), 1.0)
