"""Vision encoders that a neck can serve: how large a picture they see where latents lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lossylens.codec import Square
from lossylens.errors import ConfigError
from lossylens.vlm import Box, VisionAccess
from lossylens_toolkit.transformers_vlm.square import cropped_box, padded_box
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE

#: Sides of the patches of the encoders that there are, in pixels.
_PATCHES = (14, 16)


def host_side(vision: VisionAccess, rows: int) -> int:
    """Return the side of the squares of which the encoder makes *rows* rows of patches.

    Raises:
        ConfigError: it makes another number of each, or cuts such a picture into tiles.
    """
    for patch in _PATCHES:
        side = rows * patch
        layout = vision.layout((side, side))
        if (layout.tiles, layout.rows, layout.columns) == (1, rows, rows):
            return side
    side = _PATCHES[0] * rows
    layout = vision.layout((side, side))
    if layout.tiles != 1:
        raise ConfigError("the vision encoder cuts pictures into tiles; a neck takes one square")
    raise ConfigError(
        f"the vision encoder has {layout.rows}x{layout.columns} patches, and there are"
        f" {rows}x{rows} latents; code at square: {{side: {16 * layout.rows}}}"
    )


def layout_of(vision: VisionAccess, rows: int, square: Square | None, size: tuple[int, int]) -> Any:
    """Return the layout of a square of an image of *size*, patches where its latents are.

    Raises:
        ConfigError: as :func:`host_side`.
    """
    side = host_side(vision, rows)
    return replace(vision.layout((side, side)), rectangles=(_shown(square, size),))


def _shown(square: Square | None, size: tuple[int, int]) -> Box:
    fit = square.fit if square else "squash"
    if fit == "pad":
        return padded_box(size)
    return cropped_box(size) if fit == "crop" else WHOLE
