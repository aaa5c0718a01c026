"""The CLIP whose image encoder a VLM sees through, for what the VLM leaves out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lossylens.errors import ConfigError
from lossylens.vlm import VisionAccess

from lossylens_toolkit.clip.model import Clip, load_clip
from lossylens_toolkit.out_of_memory import is_out_of_memory

#: How far the states of CLIP and of the VLM's encoder may be apart, relative to their size, in
#: float32 and in half precision, whose rounding 23 layers of CLIP ViT-L bring to 1.3e-2.
_SAME, _SAME_IN_HALF = 1e-2, 5e-2


@torch.no_grad()
def load_host_clip(
    name: str, vision: VisionAccess, pictures: Sequence[Any], device: torch.device
) -> Clip | None:
    """Return CLIP, or None if it is not what the VLM sees through.

    Args:
        name: hub id, folder or short name of CLIP.
        vision: of the VLM.
        pictures: preprocessed by it, on which both are compared.
        device: where to.

    Raises:
        RequirementError: CLIP is missing or damaged.
        ConfigError: there is no such short name.
    """
    clip = load_clip(name, device=device)
    layer = min(vision.layers, clip.tower.layers)
    try:
        mine = vision.hidden_states(pictures, {layer})[layer]
        others = clip.tower.hidden_states(pictures, {layer})[layer]
        apart = max(
            float((one.float() - other).norm() / other.norm())
            for one, other in zip(mine, others, strict=True)
        )
    except (RuntimeError, ValueError, ConfigError) as error:  # of other patches or widths
        if is_out_of_memory(error):
            raise
        return None
    return clip if apart < (_SAME_IN_HALF if mine[0].dtype.itemsize < 4 else _SAME) else None
