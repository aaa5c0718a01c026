"""Rate, distortion, and the weighted sum that is minimised.

Ballé et al., "End-to-end optimized image compression", ICLR 2017: the rate in bits
per pixel plus the distortion times a multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_PEAK = 255.0


@dataclass(frozen=True)
class Objective:
    """The loss of a batch.

    Attributes:
        multiplier: of the distortion.
        distortion: ``mse`` or ``ms-ssim``.
    """

    multiplier: float
    distortion: str = "mse"

    def __call__(self, out: Mapping[str, Tensor | Mapping[str, Tensor]], x: Tensor) -> Terms:
        """Return the terms for what a network made of pictures *x*, ``(B, 3, H, W)``."""
        likelihoods, x_hat = out["likelihoods"], out["x_hat"]
        assert isinstance(likelihoods, Mapping)
        assert isinstance(x_hat, Tensor)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        bpp = estimated_bits(likelihoods) / pixels
        distortion = self._distortion(x_hat.float(), x)
        return Terms(bpp + self.multiplier * distortion, bpp, distortion)

    def _distortion(self, x_hat: Tensor, x: Tensor) -> Tensor:
        if self.distortion == "mse":
            return (x_hat - x).square().mean() * _PEAK**2
        from pytorch_msssim import ms_ssim

        return 1 - ms_ssim(x_hat, x, data_range=1.0)


@dataclass(frozen=True)
class Terms:
    """Loss, bits per pixel and distortion of a batch, each of one element."""

    loss: Tensor
    bpp: Tensor
    distortion: Tensor

    def values(self) -> dict[str, float]:
        """Return them as numbers, by name."""
        return {name: value.item() for name, value in vars(self).items()}


def estimated_bits(likelihoods: Mapping[str, Tensor]) -> Tensor:
    """Return the information content of all latents together, in bits."""
    return torch.stack([-each.float().log2().sum() for each in likelihoods.values()]).sum()


def psnr(x_hat: Tensor, x: Tensor) -> float:
    """Return the PSNR in dB of a picture in 0..1, clamped and rounded to 8 bits."""
    rounded = (x_hat.clamp(0, 1) * _PEAK).round() / _PEAK
    error = (rounded - x).square().mean().item()
    return -10 * math.log10(error) if error else math.inf
