"""The VAE of Stable Diffusion: pictures to scaled latents and back, in tiles if need be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossylens_toolkit.latent_diffusion import tiles
from lossylens_toolkit.latent_diffusion.ldm import SCALE
from lossylens_toolkit.latent_diffusion.tiles import VaeTiles

#: Pixels per latent, along each side.
STRIDE = 8


@dataclass(frozen=True)
class Vae:
    """The VAE.

    Attributes:
        model: the AutoencoderKL of diffusers.
        encoder_tiles: tiles of pictures; None for none, whatever their size.
        decoder_tiles: tiles of latents; None for none.
    """

    model: Any
    encoder_tiles: VaeTiles | None = None
    decoder_tiles: VaeTiles | None = None

    def encode(self, x: Tensor) -> Tensor:
        """Return the scaled means of the latents ``(1, 4, H/8, W/8)``.

        Args:
            x: a picture in -1..1, ``(1, 3, H, W)``.
        """
        moments = self.model.quant_conv(self._encode(x, last=True))
        return SCALE * moments.chunk(2, 1)[0].float()

    def features(self, x: Tensor) -> Tensor:
        """Return the encoder's features before its last convolution, scaled as latents are."""
        return SCALE * self._encode(x, last=False).float()

    def decode(self, latent: Tensor) -> Tensor:
        """Return the picture ``(1, 3, H, W)`` of scaled latents, not clamped."""
        z = self.model.post_quant_conv((latent / SCALE).to(self._dtype))
        split = self.decoder_tiles
        if split is None or not split.needed(*z.shape[-2:]):
            return self.model.decoder(z).float()
        return split.apply(tiles.decoder_steps(self.model.decoder), z, STRIDE).float()

    def _encode(self, x: Tensor, last: bool) -> Tensor:
        x = x.to(self._dtype)
        split, steps = self.encoder_tiles, tiles.encoder_steps(self.model.encoder, last)
        if split is not None and split.needed(*x.shape[-2:]):
            return split.apply(steps, x, 1 / STRIDE)
        return self.model.encoder(x) if last else tiles.run(steps, x)

    @property
    def _dtype(self) -> torch.dtype:
        found: torch.dtype = self.model.dtype
        return found
