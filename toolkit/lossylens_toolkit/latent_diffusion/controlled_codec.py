"""The codec contract for DiffEIC and RDEIC, whose UNet is controlled by what was decoded."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from lossylens_toolkit.latent_diffusion.base_weights import UNETS, VAES
from lossylens_toolkit.latent_diffusion.chain import CODEC, load_codec, refuse_unknown
from lossylens_toolkit.latent_diffusion.control import (
    CONTROL,
    Control,
    ControlledDiffusion,
    check_fit,
    control_config,
)
from lossylens_toolkit.latent_diffusion.diffusion_codec import LatentDiffusionCodec
from lossylens_toolkit.latent_diffusion.diffusion_options import SD21_BASE, ControlledOptions
from lossylens_toolkit.latent_diffusion.ldm import UNET, VAE
from lossylens_toolkit.neural_codec.padding import Padding


class ControlledCodec(LatentDiffusionCodec):
    """A codec with a controlled UNet.

    Attributes:
        control_params: configuration of the official control network.
    """

    control_params: ClassVar[Mapping[str, Any]]

    base = SD21_BASE
    padding = Padding(multiple=64)
    counting = "the file, over the pixels of the padded picture"

    options: ControlledOptions

    def load_official(self, network_: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        refuse_unknown(state, (UNET, VAE, CONTROL, CODEC))
        load_codec(network_, state)

    def diffusion(self, height: int, width: int, guidance: float = 1.0) -> ControlledDiffusion:
        """Return what predicts the noise in latents of this size."""
        # The prompt first: the text encoder is gone when the UNet comes.
        context, tiles = self.context, self.unet_tiles(height, width)
        unet = self.unet
        check_fit(unet, self.control)
        return ControlledDiffusion(unet, self.control, context, tiles, guidance)

    @property
    def unet(self) -> UNet2DConditionModel:
        """See the base; what a checkpoint has of it goes before the base weights."""
        own = self._overrides(UNET)
        base = self.base_weights
        return self.latest(UNETS, lambda: base.unet(self.dtype, own), own and self.checkpoint)

    @property
    def vae(self) -> AutoencoderKL:
        """See the base; what a checkpoint has of it goes before the base weights."""
        own = self._overrides(VAE)
        base = self.base_weights
        return self.latest(VAES, lambda: base.vae(self.dtype, own), own and self.checkpoint)

    @functools.cached_property
    def control(self) -> Control:
        """The control network, with its weights, on its device."""
        params = self.config("control") or self.control_params
        with self._named(self.checkpoint):
            control = Control(self.unet.config, control_config(params))
            control.load(self.weights.state, dtype=self.dtype)
        return control.requires_grad_(False).eval().to(self._device)

    def _overrides(self, prefix: str) -> dict[str, Tensor]:
        return {name: v for name, v in self.weights.state.items() if name.startswith(prefix)}

    def tiled(self, height: int, width: int) -> bool:
        """See the base."""
        return height * width > self.options.untiled_pixels

    def official_bits(self, image: Image.Image, bitstream: bytes) -> float:
        """See the base; the official script divides by the pixels of the padded picture."""
        width, height = self.padding.padded(*image.size)
        part = image.width * image.height / (width * height)
        return super().official_bits(image, bitstream) * part
