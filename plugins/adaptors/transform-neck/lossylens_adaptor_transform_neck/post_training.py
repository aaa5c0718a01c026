"""Training of the baseline: the same loss as the neck's, behind the whole encoder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lossylens.adaptor import Needs, Trained, Trainer, Training
from lossylens.errors import ConfigError
from lossylens.vlm import VisionAccess
from lossylens_toolkit.training.pairs import Variant
from lossylens_toolkit.training.tensor_pictures import prepared_tensors
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lossylens_adaptor_transform_neck.feature_training import FeatureTraining, Hidden
from lossylens_adaptor_transform_neck.options import PostTrainingOptions
from lossylens_adaptor_transform_neck.post_processing import METHOD
from lossylens_adaptor_transform_neck.unet import Unet


class PostTrainer(Trainer):
    """Trains a U-Net."""

    options: PostTrainingOptions

    def train(self, training: Training) -> Trained:
        """Train, or go on with what is in the folder; see :class:`~lossylens.adaptor.Trainer`."""
        loop = PostTraining(training, self.options)
        loop.run()
        return loop.export()


class _Trained(nn.Module):
    def __init__(self, network: Unet) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: Tensor) -> tuple[Tensor, Mapping[str, Any]]:
        return self.network(given), {}


class PostTraining(FeatureTraining):
    """One training.

    Raises:
        ConfigError: as the base, or the encoder's preprocessing cannot be differentiated.
    """

    def __init__(self, training: Training, options: PostTrainingOptions) -> None:
        own = {"channels": options.channels}
        super().__init__(METHOD, training, options, own, Needs.PIXELS)
        try:
            network = Unet(options.channels)
        except ValueError as error:
            raise ConfigError(f"training: no such U-Net: {error}") from error
        self.prepare(_Trained(network), [{"params": network.parameters()}])

    @property
    def _network(self) -> Unet:
        trained: _Trained = self.accelerator.unwrap_model(self.module)
        return trained.network

    def given(self, originals: Sequence[Any], variants: Sequence[Variant]) -> Tensor:
        """Return decoded pictures, ``(B, 3, side, side)`` in 0..1."""
        found = [torch.from_numpy(np.array(each.image)) for each in variants]
        return torch.stack(found).to(self.accelerator.device).permute(0, 3, 1, 2).float() / 255

    def hidden(self, made: Tensor) -> Hidden:
        """Return what a tower makes of repaired pictures, at the size that it sees."""
        side = (self.host.side, self.host.side)
        scaled = interpolate(made.float(), side, mode="bicubic", antialias=True)

        def passed(tower: VisionAccess, layers: Collection[int]) -> Mapping[int, Sequence[Tensor]]:
            pictures = prepared_tensors(tower, scaled, METHOD)
            return tower.hidden_states(pictures, layers)

        return passed

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights of the U-Net."""
        return self._network.weights()

    def about(self) -> Mapping[str, Any]:
        """Return what the adaptor needs to know."""
        return {**super().about(), "channels": self._network.channels}
