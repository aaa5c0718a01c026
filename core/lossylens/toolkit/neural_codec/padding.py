"""How a picture is brought to a size that a network takes, and back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Padding:
    """Zeros around a picture.

    Attributes:
        multiple: of which both sides become multiples.
        minimum: length of the shortest side.
        centred: whether the picture is put in the middle (an odd rest goes to the
            right and to the bottom), or into the upper left corner.
    """

    multiple: int
    minimum: int = 0
    centred: bool = False

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after padding."""
        return self._side(width), self._side(height)

    def pad(self, x: Tensor) -> Tensor:
        """Return pictures ``(B, C, H, W)`` with zeros around them."""
        left, top = self._offset(x.shape[-1]), self._offset(x.shape[-2])
        right = self._side(x.shape[-1]) - x.shape[-1] - left
        bottom = self._side(x.shape[-2]) - x.shape[-2] - top
        return functional.pad(x, (left, right, top, bottom))

    def crop(self, x: Tensor, width: int, height: int) -> Tensor:
        """Undo :meth:`pad` for pictures that were *width* x *height*."""
        left, top = self._offset(width), self._offset(height)
        return x[..., top : top + height, left : left + width]

    def _side(self, length: int) -> int:
        return max(-(-length // self.multiple) * self.multiple, self.minimum)

    def _offset(self, length: int) -> int:
        return (self._side(length) - length) // 2 if self.centred else 0
