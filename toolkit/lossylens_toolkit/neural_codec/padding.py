"""How a picture is brought to a size that a network takes, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_MODES = ("zeros", "reflect", "reflect-or-zeros")


@dataclass(frozen=True)
class Padding:
    """Zeros, or the picture's own reflection, around a picture.

    Attributes:
        multiple: of which both sides become multiples.
        minimum: length of the shortest side.
        centred: whether the picture is put in the middle (an odd rest goes to the
            right and to the bottom), or into the upper left corner.
        mode: ``zeros``; ``reflect`` for reflection at the last row and column, to and fro
            as often as it takes; ``reflect-or-zeros`` for reflection, but zeros on all
            sides where one is longer than a single reflection.
    """

    multiple: int
    minimum: int = 0
    centred: bool = False
    mode: str = "zeros"

    def __post_init__(self) -> None:
        """Check the mode."""
        if self.mode not in _MODES:
            raise ValueError(f"mode {self.mode!r} is not one of {', '.join(_MODES)}")

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after padding."""
        return self._side(width), self._side(height)

    def offset(self, width: int, height: int) -> tuple[int, int]:
        """Return x and y of the picture's upper left corner after padding."""
        return self._before(width), self._before(height)

    def pad(self, x: Tensor) -> Tensor:
        """Return pictures ``(B, C, H, W)`` with what is around them."""
        height, width = x.shape[-2:]
        if self.padded(width, height) == (width, height):
            return x
        left, top = self.offset(width, height)
        right = self._side(width) - width - left
        bottom = self._side(height) - height - top
        once = max(left, right) < width and max(top, bottom) < height
        if self.mode == "zeros" or (self.mode == "reflect-or-zeros" and not once):
            return functional.pad(x, (left, right, top, bottom))
        rows, columns = _reflected(height, top, bottom), _reflected(width, left, right)
        return x[..., rows.to(x.device), :][..., columns.to(x.device)]

    def crop(self, x: Tensor, width: int, height: int) -> Tensor:
        """Undo :meth:`pad` for pictures that were *width* x *height*."""
        left, top = self.offset(width, height)
        return x[..., top : top + height, left : left + width]

    def _side(self, length: int) -> int:
        return max(-(-length // self.multiple) * self.multiple, self.minimum)

    def _before(self, length: int) -> int:
        return (self._side(length) - length) // 2 if self.centred else 0


def _reflected(length: int, before: int, after: int) -> Tensor:
    """Return the position in a line that each position of the longer one takes."""
    period = max(1, 2 * (length - 1))
    positions = torch.arange(-before, length + after).remainder(period)
    return torch.minimum(positions, period - positions) if length > 1 else positions
