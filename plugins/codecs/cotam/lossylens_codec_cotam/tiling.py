"""Where hosts that cut pictures into tiles cut them, and maps of tiles made one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from lossylens.vlm import Box
from lossylens_toolkit.transformers_vlm.families.internvl import tile_grid
from lossylens_toolkit.transformers_vlm.families.llava_onevision import mosaic_tiles
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE
from numpy.typing import NDArray
from PIL.Image import Image
from torch.nn.functional import grid_sample, interpolate

from lossylens_codec_cotam.guidance_map import CELLS
from lossylens_codec_cotam.plugin import INTERNVL, LLAVA_ONEVISION, TILE_LIMITS

#: Sides of the tiles of the two hosts, in pixels.
_INTERNVL_SIDE, _ONEVISION_SIDE = 448, 384

#: Most tiles along each side that checkpoints of LLaVA-OneVision take.
_ONEVISION_TILES = 6

#: Attention over cells, row by row.
Cells = NDArray[np.float64]


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    Attributes:
        columns: of tiles.
        rows: of tiles.
        canvas: what all tiles together show: left, top, right and bottom as fractions of the
            picture; where a host pads, they lie outside 0 to 1.
    """

    columns: int
    rows: int
    canvas: Box = WHOLE

    def boxes(self, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """Return the tiles of a picture of *size* in whole pixels, row by row; none is empty."""
        across, down = (
            _edges(size[axis], self.canvas[axis], self.canvas[axis + 2], count)
            for axis, count in ((0, self.columns), (1, self.rows))
        )
        return [
            (left, top, max(right, left + 1), max(bottom, top + 1))
            for top, bottom in itertools.pairwise(down)
            for left, right in itertools.pairwise(across)
        ]

    def crops(self, image: Image) -> list[Image]:
        """Return what the tiles show; black where they reach beyond the picture."""
        return [image.crop(box) for box in self.boxes(image.size)]


def tiling(rule: str, size: tuple[int, int], most: int | None) -> Tiling:
    """Return how a picture of *size* is cut.

    Args:
        rule: of the option ``tiles``: a host that cuts, or ``COLUMNSxROWS``.
        size: width and height in pixels.
        most: tiles; by default as many as the host takes.
    """
    if rule not in TILE_LIMITS:
        columns, rows = map(int, rule.split("x"))
        return Tiling(columns, rows)
    most = most or TILE_LIMITS[rule]
    if rule == INTERNVL:
        return Tiling(*tile_grid(size, _INTERNVL_SIDE, most))
    assert rule == LLAVA_ONEVISION
    sides = [_ONEVISION_SIDE * count for count in range(1, _ONEVISION_TILES + 1)]
    allowed = [[h, w] for h in sides for w in sides if h * w <= most * _ONEVISION_SIDE**2]
    rows, columns, boxes = mosaic_tiles(size, _ONEVISION_SIDE, allowed)
    return Tiling(columns, rows, (*boxes[0][:2], *boxes[-1][2:]))


def fused(whole: Cells, tiles: Cells, cut: Tiling) -> Cells:
    """Return one map over the picture: what the whole and the tiles say, added.

    Each map is divided by its mean first, so that both count alike.  The whole's is
    interpolated bilinearly; the tiles' is read where the picture's cells are, which is where
    the tiles' are unless a host pads.

    Args:
        whole: ``(8, 8)``.
        tiles: ``(tiles, 8, 8)``, row by row.
        cut: where the tiles lie.

    Returns:
        ``(8 * rows, 8 * columns)``.
    """
    rows, columns = cut.rows, cut.columns
    local = tiles / tiles.mean((1, 2), keepdims=True)
    local = local.reshape(rows, columns, CELLS, CELLS).swapaxes(1, 2)
    local = local.reshape(rows * CELLS, columns * CELLS)
    if cut.canvas != WHOLE:
        local = _within(local, cut.canvas)
    wide = torch.from_numpy(whole / whole.mean())[None, None]
    shape = (rows * CELLS, columns * CELLS)
    found: Cells = interpolate(wide, shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    return found + local


def _within(canvas: Cells, box: Box) -> Cells:
    """Return what a map over a canvas says of the picture on it, in as many cells."""
    left, top, right, bottom = box
    rows, columns = canvas.shape
    # Middles of the picture's cells, from -1 to 1 over the canvas.
    x = 2 * ((torch.arange(columns, dtype=torch.float64) + 0.5) / columns - left) / (right - left)
    y = 2 * ((torch.arange(rows, dtype=torch.float64) + 0.5) / rows - top) / (bottom - top)
    points = torch.stack(torch.broadcast_tensors(x - 1, (y - 1)[:, None]), -1)[None]
    given = torch.from_numpy(canvas)[None, None]
    found: Cells = grid_sample(given, points, padding_mode="border", align_corners=False)[
        0, 0
    ].numpy()
    return found


def _edges(length: int, first: float, last: float, count: int) -> list[int]:
    return [round(length * (first + (last - first) * place / count)) for place in range(count + 1)]
