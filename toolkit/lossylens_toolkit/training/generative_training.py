"""Training of a generative codec: a target rate, a perceptual and an adversarial loss.

Mentzer et al., "High-Fidelity Generative Image Compression", NeurIPS 2020; Muckley et
al., "Improving Statistical Fidelity for Neural Image Compression with Implicit Local
Likelihood Models", ICML 2023.  Unlike there, the discriminator is shown the pictures that
the generator was, and takes its step right after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lossylens.errors import ConfigError
from torch import Tensor

from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.training.codec_training import CodecTraining
from lossylens_toolkit.training.discriminators import (
    Discriminator,
    PatchDiscriminator,
    UNetDiscriminator,
)
from lossylens_toolkit.training.objective import Terms, estimated_bits
from lossylens_toolkit.training.perceptual import perceptual_distance
from lossylens_toolkit.training.training_options import NONE, PATCH, AdversarialOptions, RateOptions

#: Of the pictures that a discriminator is trained on; its U-Net halves six times.
_MULTIPLE = 64
#: Of Adam, for generator and discriminator.
_BETAS = (0.5, 0.9)


@dataclass(frozen=True)
class GenerativeTerms(Terms):
    """As the base, and the perceptual and adversarial losses, and the discriminator's own."""

    perceptual: Tensor
    adversarial: Tensor
    discriminator: Tensor


def rate_weight(bpp: float, step: int, rate: RateOptions) -> float:
    """Return the weight of the rate in the loss.

    Args:
        bpp: of the rounded latents of the batch.
        step: of the training, from 0.
        rate: see its class.
    """
    if rate.target is None:
        return 1.0
    relaxed = step < rate.relaxed_steps
    target = rate.target * (rate.relaxed_target if relaxed else 1)
    if bpp <= target:
        return rate.below
    return rate.above * (rate.relaxed_weight if relaxed else 1)


def _discriminator(latents: int, options: AdversarialOptions) -> Discriminator:
    if options.discriminator == PATCH:
        return PatchDiscriminator(latents, options.width)
    return UNetDiscriminator(latents, options.width, options.labels)


class GenerativeTraining(CodecTraining):
    """One training of one level of a generative codec."""

    _discriminator: Any = None
    _discriminator_optimizer: Any = None

    def _prepare(self, network: HyperpriorNetwork) -> None:
        options = self.options
        adversarial, device = options.adversarial, self.accelerator.device
        self._distance = None
        if options.perceptual.weight:
            self._distance = perceptual_distance(
                options.perceptual.network, self.registry, device, self.say
            )
        if adversarial.discriminator == NONE:
            return
        if options.crop % _MULTIPLE:
            raise ConfigError(f"crop: a discriminator needs a multiple of {_MULTIPLE}")
        discriminator = _discriminator(network.latent_channels, adversarial)
        discriminator.learn(self._sample())
        if adversarial.only_synthesis:
            network.requires_grad_(False)
            network.g_s.requires_grad_(True)
        optimizer = torch.optim.Adam(
            discriminator.parameters(), lr=adversarial.learning_rate, betas=_BETAS
        )
        self._discriminator, self._discriminator_optimizer = self.accelerator.prepare(
            discriminator, optimizer
        )

    def _update(self, x: Tensor) -> Terms:
        self._set_rates()
        out = self.model(x)
        plain = self.objective(out, x)
        weight = rate_weight(self._rounded_bpp(x), self.step, self.options.rate)
        loss = weight * plain.bpp + self.objective.multiplier * plain.distortion
        nothing = torch.zeros_like(plain.loss)
        perceptual, adversarial, told = nothing, nothing, nothing
        x_hat = out["x_hat"].float()
        if self._distance:
            perceptual = self._distance(x_hat, x)
            loss = loss + self.options.perceptual.weight * perceptual
        if self._discriminator:
            # What the generator does must not teach the discriminator.
            self._discriminator.requires_grad_(False)
            latents = out["y_hat"].detach().float()
            adversarial = self._discriminator.generator_loss(x_hat, latents, x)
            self._discriminator.requires_grad_(True)
            loss = loss + self.options.adversarial.weight * adversarial
        self._descend(loss + out["auxiliary"])
        if self._discriminator:
            told = self._teach(x, x_hat.detach(), latents)
        return GenerativeTerms(loss, plain.bpp, plain.distortion, perceptual, adversarial, told)

    def _teach(self, x: Tensor, x_hat: Tensor, latents: Tensor) -> Tensor:
        """Take the discriminator's step and return its loss."""
        self._discriminator_optimizer.zero_grad()
        told = self._discriminator.loss(x, x_hat, latents)
        self.accelerator.backward(told)
        self._discriminator_optimizer.step()
        return told

    @torch.no_grad()
    def _rounded_bpp(self, x: Tensor) -> float:
        """Return the rate that real strings would have, which decides the weight."""
        if self.options.rate.target is None:
            return 0.0
        network: Any = self.network.eval()
        bits = estimated_bits(network.estimate(x))
        network.train()
        return bits.item() / (x.shape[0] * x.shape[2] * x.shape[3])
