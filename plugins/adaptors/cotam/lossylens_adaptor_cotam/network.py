"""The latent feature adapter: latents of a codec to what is added to tokens of a tile.

Liu et al., arXiv:2509.24258: a linear map, a class token and positions of its own, and one
transformer block.  Here a last linear map follows that begins as zeros, so that the adapter
begins as none; positions are resized to the grid of the vision encoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lossylens.vlm import Box
from torch import Tensor, nn
from torch.nn import functional

#: Channels of an attention head.
_HEAD = 64


class LatentFeatureAdapter(nn.Module):
    """Makes deltas of tokens from latents.

    Args:
        channels: of the latents.
        width: of the vision encoder.
        extra: class tokens of the vision encoder.
        grid: learned positions along each side.
        heads: of attention.
    """

    def __init__(
        self, channels: int, width: int, extra: int, grid: int, heads: int | None = None
    ) -> None:
        super().__init__()
        heads = heads or max(1, width // _HEAD)
        self.described: Mapping[str, Any] = {
            "channels": channels,
            "width": width,
            "extra": extra,
            "grid": grid,
            "heads": heads,
        }
        self.extra = extra
        self.enter = nn.Linear(channels, width)
        self.classes = nn.Parameter(torch.randn(extra, width) * width**-0.5)
        self.positions = nn.Parameter(torch.randn(width, grid, grid) * width**-0.5)
        self.norm = nn.LayerNorm(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.last = nn.Linear(width, width)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """Return deltas ``(tiles, extra + rows * columns, width)``.

        Args:
            latents: at the patches of each tile, ``(tiles, channels, rows, columns)``.
        """
        patches = self.enter(latents.flatten(2).transpose(1, 2))
        positions = functional.interpolate(
            self.positions[None], latents.shape[-2:], mode="bilinear", align_corners=False
        )
        patches = patches + positions.flatten(2).transpose(1, 2)
        x = self.norm(torch.cat([self.classes.expand(len(latents), -1, -1), patches], 1))
        given = self.norms[0](x)
        x = x + self.attention(given, given, given, need_weights=False)[0]
        hidden = self.expand(self.norms[1](x))
        x = x + self.contract(hidden * torch.sigmoid(1.702 * hidden))  # QuickGELU
        deltas: Tensor = self.last(x)
        return deltas


def at_patches(
    latents: Tensor,
    stride: int,
    size: tuple[int, int],
    rectangles: Sequence[Box],
    rows: int,
    columns: int,
    offset: tuple[int, int] = (0, 0),
) -> Tensor:
    """Return latents at the middles of the patches of each tile, interpolated bilinearly.

    Patches that lie outside of the picture, where a tile is padded, get zeros; latents of the
    codec's own padding are left out.

    Args:
        latents: of the padded picture, ``(channels, height, width)``.
        stride: pixels for each of them.
        size: width and height of the picture, in pixels.
        rectangles: for each tile what it shows, as fractions of the picture.
        rows, columns: of patches in a tile.
        offset: x and y of the picture's corner in what was coded, in pixels.

    Returns:
        ``(tiles, channels, rows, columns)``.
    """
    width, height = size
    (first, x0), (above, y0) = (divmod(each, stride) for each in offset)
    below, last = math.ceil((offset[1] + height) / stride), math.ceil((offset[0] + width) / stride)
    latents = latents[:, above:below, first:last]
    found = []
    for left, top, right, bottom in rectangles:
        x = left + (right - left) * (torch.arange(columns, dtype=latents.dtype) + 0.5) / columns
        y = top + (bottom - top) * (torch.arange(rows, dtype=latents.dtype) + 0.5) / rows
        inside = ((y > 0) & (y < 1))[:, None] & ((x > 0) & (x < 1))
        # From fractions of the picture to -1 to 1 over the latents, whose last are cut off.
        x = 2 * (x0 + x * width) / (stride * latents.shape[2]) - 1
        y = 2 * (y0 + y * height) / (stride * latents.shape[1]) - 1
        points = torch.stack(torch.broadcast_tensors(x, y[:, None]), -1)[None]
        tile = functional.grid_sample(
            latents[None], points, padding_mode="border", align_corners=False
        )
        found.append(tile * inside)
    return torch.cat(found)
