"""How the reference evaluator reads a box, and compares two boxes.

1. :func:`lossylens_toolkit.written_boxes.four_numbers`; fewer are no box.
2. Whose largest is at most 1.5 are fractions of the picture, at most 1000 thousandths of it,
   others pixels.  So pixels of a small picture, and those of Qwen2.5-VL, are misread:
   :mod:`~lossylens_task_refcoco.units` reads them as what they are.
3. The box is cut to the picture, and corners in the wrong order change places.
4. Boxes are continuous: a box from 10 to 20 is 10 pixels wide.
"""

from __future__ import annotations

from lossylens_toolkit.written_boxes import Numbers

#: Left, top, right and bottom.
Corners = tuple[float, float, float, float]

_FRACTIONS, _THOUSANDTHS = 1.5, 1000


def guessed(numbers: Numbers, width: float, height: float) -> Corners:
    """Return the box that *numbers* mean by rules 2 and 3, in pixels."""
    largest = max(map(abs, numbers))
    if largest <= _FRACTIONS:
        numbers = scaled(numbers, width, height)
    elif largest <= _THOUSANDTHS:
        numbers = scaled(tuple(each / 1000.0 for each in numbers), width, height)
    return within(numbers, width, height)


def scaled(numbers: tuple[float, ...], across: float, down: float) -> Corners:
    """Return *numbers*, those across times *across* and those down times *down*."""
    left, top, right, bottom = numbers
    return left * across, top * down, right * across, bottom * down


def within(box: Corners, width: float, height: float) -> Corners:
    """Return *box* cut to the picture, its corners in order."""
    across = sorted(min(max(side, 0.0), width) for side in box[0::2])
    down = sorted(min(max(side, 0.0), height) for side in box[1::2])
    return across[0], down[0], across[1], down[1]


def overlap(one: Corners, other: Corners) -> float:
    """Return the intersection of two boxes over their union, 0 where either has no area."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    union = _area(one) + _area(other) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Corners) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
