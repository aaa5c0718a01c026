"""Perceptual distances that a generative codec is trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from lossylens.errors import ConfigError
from lossylens.registry.fidelity import ALEXNET
from lossylens.registry.plugins import Registry
from lossylens.vlm import VisionAccess
from torch import Tensor
from torch.nn import functional

from lossylens_toolkit.training.tensor_pictures import prepared_tensors

#: Of two batches of pictures ``(B, 3, H, W)`` in 0..1; differentiable by the first.
Distance = Callable[[Tensor, Tensor], Tensor]

AUTO, LPIPS = "auto", "lpips"

#: VLM whose vision encoder is there on every machine.
_SMALLEST = "nano"

#: Side of the window that a vision encoder compares, in pixels, at most.
_WINDOW = 224


def perceptual_distance(
    name: str, registry: Registry, device: torch.device, say: Callable[[str], object]
) -> Distance:
    """Return a perceptual distance.

    Args:
        name: ``lpips``, the name of a VLM, whose vision encoder is used, or ``auto`` for
            LPIPS where its weights are, and the nano VLM where they are not.
        registry: in which the VLM is found.
        device: of the pictures.
        say: is told which it is.

    Raises:
        ConfigError: the weights of LPIPS are missing, or the VLM's encoder takes other
            than plain patches.
    """
    missing = ALEXNET.missing()
    if name == LPIPS or (name == AUTO and not missing):
        if missing:
            raise ConfigError(f"perceptual.network: lpips needs {missing.what}: {missing.remedy}")
        say("Perceptual loss: LPIPS with AlexNet.")
        return _lpips(device)
    vlm = _SMALLEST if name == AUTO else name
    reason = f", for LPIPS lacks {missing.what}" if name == AUTO and missing else ""
    say(f"Perceptual loss: hidden states of the vision encoder of {vlm}{reason}.")
    return EncoderDistance(registry.build_vlm(vlm).vision, device, f"perceptual.network: {vlm}")


def _lpips(device: torch.device) -> Distance:
    from lossylens_toolkit.fidelity_networks import lpips_network

    network = lpips_network().to(device).requires_grad_(False)

    def distance(x_hat: Tensor, x: Tensor) -> Tensor:
        return network.net(x_hat.clamp(0, 1), x, normalize=True).mean()

    return distance


class EncoderDistance:
    """Distance of hidden states: as LPIPS, of states that are normalised at each position.

    A window of at most 224x224 pixels is compared, another at each call.

    Args:
        vision: encoder of a VLM of the Qwen2.5-VL architecture.
        device: of the pictures; the encoder is put there, and frozen.
        chosen: option and VLM, for messages.

    Raises:
        ConfigError: the encoder takes other than plain patches.
    """

    def __init__(self, vision: VisionAccess, device: torch.device, chosen: str) -> None:
        self._tower = cast("Any", vision)
        processor = getattr(getattr(vision, "preprocess", None), "processor", None)
        if not hasattr(processor, "merge_size"):
            raise ConfigError(
                f"{chosen} has a vision encoder that takes no plain patches; name a VLM of the"
                " Qwen2.5-VL architecture, such as nano"
            )
        self._processor: Any = processor
        self._chosen = chosen
        self._tower.module.to(device).requires_grad_(False)
        depth = self._tower.layers
        self._layers = sorted({max(1, depth // 3), max(1, 2 * depth // 3), depth})

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the mean over positions and layers of squared distances."""
        unit = self._processor.patch_size * self._processor.merge_size
        height, width = (min(_WINDOW, side) // unit * unit for side in x.shape[-2:])
        if not height or not width:
            raise ConfigError(f"crop: a vision encoder needs {unit} pixels at least")
        top = int(torch.randint(x.shape[-2] - height + 1, ()))
        left = int(torch.randint(x.shape[-1] - width + 1, ()))
        window = (..., slice(top, top + height), slice(left, left + width))
        found = self._states(x_hat[window])
        with torch.no_grad():
            wanted = self._states(x[window])
        # Of vectors of unit length, the squared distance is this.
        likenesses = [
            functional.cosine_similarity(one, other, dim=-1).flatten()
            for one, other in zip(found, wanted, strict=True)
        ]
        return 2 - 2 * torch.cat(likenesses).mean()

    def _states(self, x: Tensor) -> Sequence[Tensor]:
        pictures = prepared_tensors(self._tower, x, self._chosen)
        states = self._tower.hidden_states(pictures, self._layers)
        return [each for layer in self._layers for each in states[layer]]
