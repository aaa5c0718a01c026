"""Where nano-llava starts from: the language model of nano, and a projector that speaks to it.

nano's language model has learned to read what nano's vision encoder writes.  The projector
first learns to write the same of the same place, by regression, which takes minutes where
questions would take hours.
"""

from __future__ import annotations

from typing import Any

import torch
from lossylens_nano_clip.architecture import PATCH, SIDE
from lossylens_nano_clip.training.data import clip_picture
from lossylens_task_scenes.scene import make_scene
from lossylens_vlm_nano.architecture import MERGE
from lossylens_vlm_nano.architecture import PATCH as NANO_PATCH
from lossylens_vlm_nano.architecture import SIDE as NANO_SIDE
from lossylens_vlm_nano.training.data import TRAIN_SEED, picture
from lossylens_vlm_nano.training.forward import VisionForward, patchify
from torch import Tensor
from torch.nn.functional import mse_loss
from transformers import Qwen2_5_VLForConditionalGeneration

from lossylens_vlm_nano_llava.training.model import TrainedLlava

#: Scenes that the regression sees, and how often.
_SCENES, _PASSES = 1024, 30
#: Scenes of a step.
_BATCH = 16


def start_llava(llava: TrainedLlava, nano: Qwen2_5_VLForConditionalGeneration) -> None:
    """Give *llava* the language model of *nano*, and fit its projector."""
    text: Any = nano.model.language_model
    llava.model.model.language_model.load_state_dict(text.state_dict())
    seen, wanted = seen_and_wanted(llava, nano, _SCENES)
    projector = llava.model.model.multi_modal_projector
    optimizer = torch.optim.AdamW(projector.parameters(), lr=2e-3, weight_decay=0.01)
    steps = _PASSES * _SCENES // _BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    variance = wanted.var()
    for step in range(steps):
        chosen = torch.randint(_SCENES, (_BATCH,), generator=generator)
        loss = mse_loss(projector(seen[chosen]), wanted[chosen]) / variance
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            print(f"projector: step {step} of {steps}, error {loss.item():.3f}", flush=True)


@torch.no_grad()
def seen_and_wanted(
    llava: TrainedLlava, nano: Qwen2_5_VLForConditionalGeneration, scenes: int
) -> tuple[Tensor, Tensor]:
    """Return what nano-clip sees in each patch, and nano's token of the cell at its centre.

    Both are (scenes, patches, width), row by row.
    """
    across, cells = SIDE // PATCH, NANO_SIDE // (NANO_PATCH * MERGE)
    encode = VisionForward(nano, NANO_SIDE)
    nearest = ((torch.arange(across) + 0.5) * cells / across).long()
    places = (nearest[:, None] * cells + nearest).flatten()
    seen, wanted = [], []
    for first in range(0, scenes, _BATCH):
        drawn = [make_scene(TRAIN_SEED, first + number) for number in range(_BATCH)]
        seen.append(llava.features(torch.stack([clip_picture(scene) for scene in drawn])))
        pictures = torch.stack([picture(scene) for scene in drawn])
        wanted.append(encode(patchify(pictures))[:, places])
    return torch.cat(seen), torch.cat(wanted)
