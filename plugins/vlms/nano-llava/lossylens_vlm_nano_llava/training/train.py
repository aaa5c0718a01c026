"""Training of nano-llava; started again, it continues.

    python -m lossylens_vlm_nano_llava.training.train --out nano-llava --minutes 60

The vision encoder is that of nano-clip and stays as it is.  The last state is written to
``nano-llava/weights``, which the option ``checkpoint`` of the VLM takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from lossylens_nano_clip import WEIGHTS
from lossylens_nano_clip.architecture import SIDE
from lossylens_nano_clip.training.data import clip_picture
from lossylens_task_scenes.scene import Scene
from lossylens_vlm_nano.prompt import prompt_prefix
from lossylens_vlm_nano.training.data import Batch, RowBuilder, RowPrefix
from lossylens_vlm_nano.training.loop import Settings, Training
from lossylens_vlm_nano.training.settings_parser import settings_parser
from lossylens_vlm_nano.training.text import RememberedScenes
from lossylens_vlm_nano.vlm import BUNDLED as NANO
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
)

from lossylens_vlm_nano_llava.training.initial import start_llava
from lossylens_vlm_nano_llava.training.model import TOKENS, TrainedLlava, new_llava

#: Steps after which a further lesson begins; nano's language model has had the first ones.
_LESSON_STEPS = (0, 100, 250)


def llava_prefix(tokenizer: PreTrainedTokenizerBase) -> RowPrefix:
    """Return what precedes questions about a picture; positions count tokens."""
    ids = tokenizer.encode(prompt_prefix(TOKENS), add_special_tokens=False)
    return RowPrefix(ids, torch.arange(len(ids)).repeat(3, 1), len(ids))


def _no_targets(scene: Scene) -> NDArray[np.uint8]:
    return np.zeros(0, dtype=np.uint8)


class LlavaTraining(Training[TrainedLlava]):
    """Trains projector and language model on what nano-clip sees.

    Args:
        settings: of the training.
        clip: folder of the CLIP that is looked through.
    """

    def __init__(self, settings: Settings, clip: Path = WEIGHTS) -> None:
        self.clip = clip
        super().__init__(settings)

    def new_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return nano's."""
        return AutoTokenizer.from_pretrained(NANO)

    def new(self) -> TrainedLlava:
        """Return a model that sees through nano-clip."""
        return TrainedLlava(new_llava(self.tokenizer, self.clip), self.settings.compile)

    def builder(self, length: int) -> RowBuilder:
        """Return what makes rows of *length* tokens."""
        prefix = llava_prefix(self.tokenizer)
        return RowBuilder(self.tokenizer, length, prefix, clip_picture, _no_targets)

    def begin(self) -> None:
        """Start from nano's language model."""
        nano = Qwen2_5_VLForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32)
        start_llava(self.nano, nano.eval())

    def choose_parameters(self) -> None:
        """Freeze the vision encoder."""
        self.nano.model.model.vision_tower.requires_grad_(False)

    def batches(self) -> Iterator[Batch]:
        """Yield scenes with questions, most of them known."""
        builder = self.builder(self.settings.length)
        self._scenes = RememberedScenes(builder, self.settings, _LESSON_STEPS)
        return self._scenes.batches(count(self.steps))

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the answer loss alone."""
        features = self._scenes.features(batch, self.nano.features)
        answer, _ = self.nano.answer_loss(batch, features)
        return answer, torch.zeros_like(answer)

    def write_weights(self, folder: Path) -> None:
        """Write half-precision weights, configuration, tokenizer and image processor."""
        self.nano.model.half().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        square = {"height": SIDE, "width": SIDE}
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
        print(f"wrote {folder}", flush=True)


def main() -> None:
    """Command line: every field of :class:`Settings` is an option."""
    parser = settings_parser(Settings, __doc__)
    parser.add_argument("--clip", type=Path, default=WEIGHTS, help="folder of another CLIP")
    arguments = vars(parser.parse_args())
    clip = arguments.pop("clip")
    training = LlavaTraining(Settings(**arguments), clip)
    if training.run():
        training.write_weights(training.settings.out / "weights")


if __name__ == "__main__":
    main()
