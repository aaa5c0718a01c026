"""The two halves of a checkerboard, each packed to half the width.

The even half holds the positions whose row and column have an even sum, the odd
half the others; both keep rows and the order within them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def split(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the even and the odd half of ``(B, C, H, W)``, each ``(B, C, H, W/2)``."""
    even, odd = values[..., 0::2], values[..., 1::2]
    swap = _odd_rows(values)
    return torch.where(swap, odd, even), torch.where(swap, even, odd)


def merge(even: Tensor, odd: Tensor) -> Tensor:
    """Undo :func:`split`."""
    swap = _odd_rows(even)
    columns = torch.stack([torch.where(swap, odd, even), torch.where(swap, even, odd)], -1)
    return columns.flatten(-2)


def _odd_rows(values: Tensor) -> Tensor:
    rows = torch.arange(values.shape[-2], device=values.device)
    return (rows % 2 == 1)[:, None]
