"""First part: the vision encoder alone, on the dense targets of crowded scenes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lossylens_vlm_nano.training.data import Batch, CrowdedScenes, made_ahead
from lossylens_vlm_nano.training.initial import centre_features
from lossylens_vlm_nano.training.loop import NanoTraining, sees


class VisionTraining(NanoTraining):
    """Trains the vision encoder and the dense head.

    When it continues from another vision state, the head stays as it is, so that a
    language model trained on the features of that state understands the new ones.
    """

    answers = False

    def begin(self) -> None:
        """Centre the features, on some pictures."""
        super().begin()
        with torch.no_grad():
            features = self.nano.features(self.held_out[0].images)
        centre_features(self.nano.model, self.nano.head, features)

    def choose_parameters(self) -> None:
        """Train the vision encoder, and the head unless it is already trained."""
        for name, parameter in self.nano.named_parameters():
            parameter.requires_grad_(sees(name))
        if self.vision is not None:
            self.nano.head.requires_grad_(False)

    def batches(self) -> Iterator[Batch]:
        """Yield crowded scenes."""
        size = self.settings.batch
        builder = self.builder(128)
        scenes = CrowdedScenes(builder, size, self.settings.first + self.steps * size)
        yield from made_ahead(scenes)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the dense loss alone."""
        dense = self.nano.dense_loss(self.nano.features(batch.images), batch.dense)
        return torch.zeros_like(dense), dense
