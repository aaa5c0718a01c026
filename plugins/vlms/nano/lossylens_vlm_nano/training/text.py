"""Second part: the language model alone, on what the vision encoder sees by now."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lossylens_vlm_nano.training.data import AskedScenes, Batch, RowBuilder
from lossylens_vlm_nano.training.initial import start_text
from lossylens_vlm_nano.training.loop import Training, sees

#: New scenes per step; the rest of a batch are scenes seen not long ago.
_FRESH = 4
_MEMORY = 4096
#: Steps after which the second and the further lessons begin.
_LESSON_STEPS = (700, 1500, 2500)


class TextTraining(Training):
    """Trains the language model; the features of the last scenes are remembered.

    Lessons come one after another, see :data:`lossylens_vlm_nano.training.data.LESSONS`.
    """

    def begin(self) -> None:
        """Start the language model from what the vision encoder has learned."""
        if self.text is None:
            start_text(self.nano.model, self.tokenizer, self.nano.head)

    def choose_parameters(self) -> None:
        """Train all but the vision encoder and the head."""
        for name, parameter in self.nano.named_parameters():
            parameter.requires_grad_(not sees(name))

    def batches(self) -> Iterator[Batch]:
        """Yield scenes with questions, most of them known."""
        builder = RowBuilder(self.tokenizer, self.settings.length)
        start = self.settings.first + self.steps * _FRESH
        scenes = AskedScenes(builder, self.settings.batch, start, _FRESH, _MEMORY)
        cells, width = builder.cells, self.nano.head.in_features
        self._memory = torch.zeros(_MEMORY, cells, width, device=self.settings.device)
        for batch in DataLoader(scenes, batch_size=None, num_workers=1, prefetch_factor=8):
            scenes.lesson[0] = bisect_right(_LESSON_STEPS, self.steps)
            yield batch

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the answer loss alone."""
        with torch.no_grad():
            new = self.nano.features(batch.images[:_FRESH])
        places = batch.numbers % _MEMORY
        self._memory[places[:_FRESH]] = new
        answer, _ = self.nano.answer_loss(batch, self._memory[places])
        return answer, torch.zeros_like(answer)
