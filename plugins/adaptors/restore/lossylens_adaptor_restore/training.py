"""Training: decoded pictures are drawn to the originals, in pixels and in features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from lossylens.adaptor import Trained, Trainer, Training
from lossylens.errors import ConfigError
from lossylens.run.picture_distances import MOST_PSNR, psnr
from lossylens_toolkit.training.adaptor_training import AdaptorTraining
from lossylens_toolkit.training.pairs import Pair
from lossylens_toolkit.training.perceptual import EncoderDistance
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from lossylens_adaptor_restore.adaptor import METHOD
from lossylens_adaptor_restore.network import RestorationNetwork, restored
from lossylens_adaptor_restore.options import RestoreTrainingOptions

#: Pictures of the validation that are measured at each codec and level.
_VALIDATED = 24

#: Of Charbonnier's distance: where it turns from a square to an absolute value.
_EPSILON = 1e-3


class RestoreTrainer(Trainer):
    """Trains a restoration network."""

    options: RestoreTrainingOptions

    def train(self, training: Training) -> Trained:
        """Train, or go on with what is in the folder; see :class:`~lossylens.adaptor.Trainer`."""
        loop = RestoreTraining(training, self.options)
        loop.run()
        return loop.export()


class RestoreTraining(AdaptorTraining):
    """One training.

    Raises:
        ConfigError: a loss of features, and the VLM's encoder is none that it can be had of.
    """

    memory_remedy = "lower training.batch, training.variants, training.crops or training.crop"

    def __init__(self, training: Training, options: RestoreTrainingOptions) -> None:
        own = {
            "loss": asdict(options.loss),
            "crop": options.crop,
            "width": options.width,
            "dilations": list(options.dilations),
        }
        super().__init__(METHOD, training, options, own)
        self._own = options
        self._distance = self._encoder_distance() if options.loss.features else None
        network = RestorationNetwork(options.width, options.dilations)
        self.prepare(network, [{"params": network.parameters()}])

    @property
    def network(self) -> RestorationNetwork:
        """The network that is trained."""
        network: RestorationNetwork = self.accelerator.unwrap_model(self.module)
        return network

    def _encoder_distance(self) -> EncoderDistance:
        chosen = f"training.loss.features: {self.training.identity.label}"
        try:
            vision = self.training.vlm.vision
        except NotImplementedError as error:
            raise ConfigError(
                f"{chosen} gives no access to its vision encoder; set it to 0, or name another VLM"
            ) from error
        return EncoderDistance(vision, self.accelerator.device, chosen)

    def loss(self, pairs: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Return the distance of restored crops from the originals'."""
        crops = [crop for pair in pairs for crop in self._crops(pair)]
        wanted, shown = (self._batch(each) for each in zip(*crops, strict=True))
        found = self.module(shown)
        terms = {"pixel": ((found - wanted).square() + _EPSILON**2).sqrt().mean()}
        total = self._own.loss.pixel * terms["pixel"]
        if self._distance is not None:
            terms["features"] = self._distance(found, wanted)
            total = total + self._own.loss.features * terms["features"]
        return {"loss": total, **terms}

    def _crops(self, pair: Pair) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Return crops of the original and of each variant, each pair at a place of its own."""
        side = self._own.crop
        original = _at_least(side, pair.original)
        found = []
        for variant in pair.variants:
            assert variant.image is not None
            shown = _at_least(side, variant.image)
            for _ in range(self._own.crops):
                # The generator's state is among what is saved: a resumed training draws the same.
                top, left = (int(torch.randint(n - side + 1, ())) for n in original.shape[:2])
                window = (slice(top, top + side), slice(left, left + side))
                found.append((original[window], shown[window]))
        return found

    def _batch(self, crops: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return crops as ``(B, 3, side, side)`` in 0..1."""
        batch = torch.from_numpy(np.stack(crops)).to(self.accelerator.device)
        return batch.permute(0, 3, 1, 2).float() / 255

    @torch.no_grad()
    def validate(self) -> Mapping[str, Any]:
        """Return the mean PSNR in dB by codec and level, before and after."""
        network = self.network.eval()
        found: dict[str, dict[str, float]] = {}
        count = min(_VALIDATED, len(self.held_out.pictures))
        for point in [None, *self.held_out.points]:
            name = "uncompressed" if point is None else f"{point.point.label} {point.point.level}"
            before, after = [], []
            for number in range(count):
                original = self.held_out.original(number)
                image = self.held_out.variant(number, point).image
                assert image is not None
                before.append(min(psnr(original, image), MOST_PSNR))
                after.append(min(psnr(original, restored(network, image)), MOST_PSNR))
            found[name] = {"before": float(np.mean(before)), "after": float(np.mean(after))}
        self.module.train()
        return found

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation."""
        values = ", ".join(
            f"{name} {each['before']:.2f} -> {each['after']:.2f}"
            for name, each in validation.items()
        )
        return f"loss {training['loss']:.4f}; PSNR in dB: {values}"

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights of the network."""
        weights: Mapping[str, Tensor] = self.network.state_dict()
        return weights

    def about(self) -> Mapping[str, Any]:
        """Return the network, and the VLM if its features took part."""
        about = {"network": self.network.described(), "loss": asdict(self._own.loss)}
        # Without them the checkpoint has nothing of the VLM, and serves any.
        return about if self._own.loss.features else {**about, "vlm": "", "vlm_weights": ""}


def _at_least(side: int, image: Image) -> NDArray[np.uint8]:
    """Return the samples ``(H, W, 3)``, continued at the bottom and right if there are too few."""
    pixels = np.asarray(image)
    height, width = (max(0, side - n) for n in pixels.shape[:2])
    return np.pad(pixels, ((0, height), (0, width), (0, 0)), mode="edge")
