"""The latents of a square, position by position on the patches of the vision encoder."""

from __future__ import annotations

import torch
from lossylens.codec import Latents
from lossylens.errors import ConfigError
from torch import Tensor

#: Image pixels per position of the latents that a neck takes: 16 are coded where the encoder has
#: a patch of 14.
STRIDE = 16


def on_patches(latents: Tensor, stride: int, offset: tuple[int, int], rows: int) -> Tensor:
    """Return the latents of a square, ``(..., rows, rows)``, without those of its padding.

    Args:
        latents: of the padded square, ``(..., height, width)``.
        stride: image pixels for each of them.
        offset: x and y of the square's corner among the coded pixels.
        rows: of latents in the square.

    Raises:
        ConfigError: they lie between the patches, or are too few.
    """
    left, top = offset
    if stride != STRIDE:
        raise ConfigError(
            f"the codec has latents of {stride}x{stride} pixels, and a neck takes those of"
            f" {STRIDE}x{STRIDE}"
        )
    if left % stride or top % stride:
        raise ConfigError(
            f"the codec pads squares of {rows * stride} pixels by {left} on the left, so that its"
            " latents lie between the patches; code at another side"
        )
    x, y = left // stride, top // stride
    found = latents[..., y : y + rows, x : x + rows]
    if found.shape[-2:] != (rows, rows):
        height, width = latents.shape[-2:]
        raise ConfigError(f"the latents are {height}x{width}, and the neck takes {rows}x{rows}")
    return found


def decoded_on_patches(latents: Latents, rows: int) -> Tensor:
    """Return :func:`on_patches` of what a codec has read from a bitstream.

    Raises:
        ConfigError: as it does.
    """
    return on_patches(torch.from_numpy(latents.values), latents.stride, latents.offset, rows)
