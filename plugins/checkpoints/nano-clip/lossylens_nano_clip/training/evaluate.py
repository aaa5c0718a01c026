"""What nano-clip reaches on held-out scenes.

    python -m lossylens_nano_clip.training.evaluate --scenes 500

Zero-shot: the class of the largest object, one of 64, by CLIP's templates.  Attention: the
entropy of the class token's attention over patches in each layer, as a share of that of
attention that is the same everywhere.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import torch
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
from lossylens_toolkit.clip.model import Clip, load_clip
from lossylens_vlm_nano.training.data import HELD_OUT_SEED

from lossylens_nano_clip import WEIGHTS
from lossylens_nano_clip.architecture import LAYERS
from lossylens_nano_clip.training.data import CLASSES, largest_class

#: Scenes that are looked at together.
_TOGETHER = 50


@dataclass(frozen=True)
class ClipAccuracy:
    """What was measured.

    Attributes:
        zero_shot: share of scenes whose class was found.
        entropy: mean entropy of the class token's attention in each layer; 1 is flat.
    """

    zero_shot: float
    entropy: tuple[float, ...]


def measure(clip: Clip, scenes: int, seed: int = HELD_OUT_SEED) -> ClipAccuracy:
    """Classify *scenes* scenes of *seed*, and look at where the class token looks."""
    classes = clip.class_vectors(CLASSES)
    right, entropies = 0, []
    for first in range(0, scenes, _TOGETHER):
        drawn = [
            make_scene(seed, number) for number in range(first, min(first + _TOGETHER, scenes))
        ]
        pictures = clip.prepare([render(scene) for scene in drawn])
        found = (clip.embed_images(pictures) @ classes.T).argmax(1)
        right += int((found == torch.tensor([largest_class(scene) for scene in drawn])).sum())
        attention = clip.class_attention(pictures, range(LAYERS)).flatten(2)
        share = attention / attention.sum(-1, keepdim=True)
        entropies.append(torch.special.entr(share).sum(-1) / math.log(share.shape[-1]))
    return ClipAccuracy(right / scenes, tuple(torch.cat(entropies).mean(0).tolist()))


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--checkpoint", default=str(WEIGHTS), help="folder of another CLIP")
    arguments = parser.parse_args()
    found = measure(load_clip(arguments.checkpoint), arguments.scenes)
    print(f"zero-shot {found.zero_shot:.3f}")
    print("attention " + "  ".join(f"{each:.3f}" for each in found.entropy))


if __name__ == "__main__":
    main()
