"""Third part: everything together, on fresh scenes with questions."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lossylens_vlm_nano.training.data import LESSONS, AskedScenes, Batch, made_ahead, questions_of
from lossylens_vlm_nano.training.loop import NanoTraining


class JointTraining(NanoTraining):
    """Trains vision encoder, head and language model on answers and dense targets."""

    def batches(self) -> Iterator[Batch]:
        """Yield new scenes with questions."""
        size = self.settings.batch
        builder = self.builder(self.settings.length)
        scenes = AskedScenes(builder, size, self.settings.first + self.steps * size)
        scenes.lesson[0] = LESSONS.index(questions_of)
        yield from made_ahead(scenes)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return both losses."""
        features = self.nano.features(batch.images)
        answer, _ = self.nano.answer_loss(batch, features)
        return answer, self.nano.dense_loss(features, batch.dense)
