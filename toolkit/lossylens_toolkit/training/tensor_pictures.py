"""Pictures that are tensors, preprocessed for a vision encoder so that gradients pass."""

from __future__ import annotations

from typing import Any, cast

import torch
from lossylens.errors import ConfigError
from lossylens.vlm import VisionAccess
from torch import Tensor
from torch.nn.functional import interpolate

from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, PreparedImage


def prepared_tensors(vision: VisionAccess, x: Tensor, chosen: str) -> list[PreparedImage]:
    """Return pictures for :meth:`~lossylens.vlm.VisionAccess.encode`.

    Args:
        vision: of the Qwen2.5-VL architecture, or CLIP's image encoder.
        x: ``(B, 3, H, W)`` in 0..1, of the size that the encoder sees; for Qwen2.5-VL sides
            are multiples of a visual token's.
        chosen: what asks for it, for messages.

    Raises:
        ConfigError: the encoder is of another architecture, or sees another size.
    """
    preprocess: Any = getattr(cast("Any", vision), "preprocess", None)
    processor: Any = getattr(preprocess, "processor", None)
    if not hasattr(processor, "image_mean") or vision.layout((14, 14)).tiles != 1:
        raise ConfigError(f"{chosen}: the vision encoder is neither Qwen2.5-VL's nor CLIP's")
    mean, std = (
        torch.tensor(each, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
        for each in (processor.image_mean, processor.image_std)
    )
    normalised = (x - mean) / std
    if hasattr(processor, "merge_size"):
        return [_patches(each, processor) for each in normalised]
    if getattr(preprocess, "side", None) != x.shape[-1] or x.shape[-2] != x.shape[-1]:
        raise ConfigError(f"{chosen}: the vision encoder sees squares of another size")
    layout = vision.layout((x.shape[-1], x.shape[-2]))
    return [PreparedImage(each[None], layout) for each in normalised]


def scaled_tensors(vision: VisionAccess, x: Tensor, chosen: str) -> list[PreparedImage]:
    """Return pictures of any size as :func:`prepared_tensors` does, scaled as the encoder does.

    Differs from what it makes of the same pictures as images by roundings to whole samples.

    Args:
        vision: as there.
        x: ``(B, 3, H, W)`` in 0..1; for CLIP squares, since how a host makes squares of others
            is its own.
        chosen: what asks for it, for messages.

    Raises:
        ConfigError: as there, or pictures for CLIP are no squares.
    """
    height, width = x.shape[-2:]
    layout: Any = vision.layout((width, height))
    preprocess: Any = getattr(cast("Any", vision), "preprocess", None)
    side = getattr(preprocess, "side", None)
    if side is not None:
        if height != width:
            raise ConfigError(
                f"{chosen}: pictures of {width}x{height}; for this model they must be squares,"
                " as with codecs.NAME.square"
            )
        size = (side, side)
    else:
        patch = getattr(getattr(preprocess, "processor", None), "patch_size", 1)
        size = (layout.rows * patch, layout.columns * patch)
    scaled = interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)
    return prepared_tensors(vision, scaled.clamp(0, 1), chosen)


def _patches(x: Tensor, processor: Any) -> PreparedImage:
    """Return a normalised picture ``(3, H, W)`` as patches, in blocks that are merged later."""
    side, merge = processor.patch_size, processor.merge_size
    rows, columns = x.shape[-2] // side, x.shape[-1] // side
    shape = (3, rows // merge, merge, side, columns // merge, merge, side)
    blocks = x.reshape(shape)
    patches = blocks.permute(1, 4, 2, 5, 0, 3, 6).reshape(rows * columns, 3, 1, side**2)
    # An image is a film of equal frames.
    frames = patches.expand(-1, -1, processor.temporal_patch_size, -1)
    return PreparedImage(frames.flatten(1), Layout(1, rows, columns))
