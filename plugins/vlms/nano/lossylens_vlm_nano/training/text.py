"""Second part: the language model alone, on what the vision encoder sees by now."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, tee

import torch
from torch import Tensor

from lossylens_vlm_nano.training.data import AskedScenes, Batch, RowBuilder, made_ahead
from lossylens_vlm_nano.training.initial import start_text
from lossylens_vlm_nano.training.loop import NanoTraining, Settings, sees

#: New scenes per step; the rest of a batch are scenes seen not long ago.
_FRESH = 4
_MEMORY = 4096
#: Steps after which the second and the further lessons begin.
_LESSON_STEPS = (700, 1500, 2500)


class RememberedScenes:
    """Scenes with questions, most of them seen not long ago, and their features.

    Lessons come one after another, see :data:`lossylens_vlm_nano.training.data.LESSONS`.

    Args:
        builder: of rows.
        settings: of the training.
        lesson_steps: steps after which the second and the further lessons begin.
    """

    def __init__(
        self, builder: RowBuilder, settings: Settings, lesson_steps: Sequence[int]
    ) -> None:
        self.builder = builder
        self.settings = settings
        self.lesson_steps = lesson_steps
        self._memory: Tensor | None = None

    def batches(self, steps: Iterable[int]) -> Iterator[Batch]:
        """Yield a batch for each number of steps that are done."""
        steps, ahead = tee(steps)
        start = self.settings.first + next(ahead) * _FRESH
        scenes = AskedScenes(self.builder, self.settings.batch, start, _FRESH, _MEMORY)
        loader = made_ahead(scenes)
        for batch, done in zip(loader, steps, strict=False):
            scenes.lesson[0] = bisect_right(self.lesson_steps, done)
            yield batch

    def features(self, batch: Batch, see: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the features of all rows of *batch*; those that are drawn are looked at."""
        with torch.no_grad():
            new = see(batch.images)
        if self._memory is None:
            self._memory = new.new_zeros(_MEMORY, *new.shape[1:])
        places = batch.numbers % _MEMORY
        self._memory[places[: len(new)]] = new
        return self._memory[places]


class TextTraining(NanoTraining):
    """Trains the language model; the features of the last scenes are remembered."""

    lesson_steps: Sequence[int] = _LESSON_STEPS

    def begin(self) -> None:
        """Start the language model from what the vision encoder has learned."""
        super().begin()
        if self.text is None:
            start_text(self.nano.model, self.tokenizer, self.nano.head)

    def choose_parameters(self) -> None:
        """Train all but the vision encoder and the head."""
        for name, parameter in self.nano.named_parameters():
            parameter.requires_grad_(not sees(name))

    def batches(self) -> Iterator[Batch]:
        """Yield scenes with questions, most of them known."""
        self._scenes = RememberedScenes(
            self.builder(self.settings.length), self.settings, self.lesson_steps
        )
        return self._scenes.batches(count(self.steps))

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the answer loss alone."""
        features = self._scenes.features(batch, self.nano.features)
        answer, _ = self.nano.answer_loss(batch, features)
        return answer, torch.zeros_like(answer)
