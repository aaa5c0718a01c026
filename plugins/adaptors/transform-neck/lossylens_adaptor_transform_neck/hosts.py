"""Vision encoders that a neck can serve: how large a picture they see where latents lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from lossylens.codec import Square
from lossylens.errors import ConfigError
from lossylens.vlm import Box, VisionAccess
from lossylens_toolkit.transformers_vlm.square import cropped_box, padded_box
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE

from lossylens_adaptor_transform_neck.placing import STRIDE


def host_side(vision: VisionAccess, rows: int) -> int:
    """Return the side of the squares of which the encoder makes *rows* rows of patches.

    Raises:
        ConfigError: it makes another number of each, or cuts such a picture into tiles.
    """
    patch = _patch(vision)
    layout = vision.layout((rows * patch, rows * patch))
    if layout.tiles != 1:
        raise ConfigError("the vision encoder cuts pictures into tiles; a neck takes one square")
    if (layout.rows, layout.columns) != (rows, rows):
        raise ConfigError(
            f"the vision encoder has {layout.rows}x{layout.columns} patches, and there are"
            f" {rows}x{rows} latents; code at square: {{side: {STRIDE * layout.rows}}}"
        )
    return rows * patch


def _patch(vision: VisionAccess) -> int:
    """Return the side of the encoder's patches, in pixels."""
    preprocess: Any = getattr(cast("Any", vision), "preprocess", None)
    own = getattr(preprocess, "patch", None)
    found = own or getattr(getattr(preprocess, "processor", None), "patch_size", None)
    if not isinstance(found, int):
        raise ConfigError("the vision encoder does not say how large its patches are")
    return found


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
