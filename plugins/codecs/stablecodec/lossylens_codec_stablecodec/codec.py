"""StableCodec as a codec."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from lossylens.codec import Level
from lossylens.errors import RequirementError
from lossylens_toolkit.latent_diffusion.base_weights import UNETS, VAES
from lossylens_toolkit.latent_diffusion.chain import refuse_unknown
from lossylens_toolkit.latent_diffusion.diffusion_codec import LatentDiffusionCodec
from lossylens_toolkit.latent_diffusion.diffusion_options import SD_TURBO
from lossylens_toolkit.latent_diffusion.diffusion_weights import read_weights
from lossylens_toolkit.latent_diffusion.sampling import Draw
from lossylens_toolkit.neural_codec.checkpoints import file_hash
from lossylens_toolkit.neural_codec.neural_options import checkpoint_folder
from lossylens_toolkit.neural_codec.padding import Padding
from torch import Tensor, nn

from lossylens_codec_stablecodec import network
from lossylens_codec_stablecodec.auxiliary import AuxiliaryEncoder
from lossylens_codec_stablecodec.latent_codec import LatentCodec
from lossylens_codec_stablecodec.plugin import AUXILIARY, LEVELS, published

#: Of the prompt "A high-resolution, 8K, ultra-realistic image with sharp focus, vibrant
#: colors, and natural lighting." in CLIP's vocabulary.
WORDS = (
    320, 1400, 268, 9977, 267, 279, 330, 267, 8118, 268, 16157, 2867,
    593, 8157, 4353, 267, 14270, 5389, 267, 537, 3288, 5799, 269,
)  # fmt: skip

#: Where a checkpoint holds its three parts.
_CODEC, _UNET, _VAE = "state_dict_codec.", "state_dict_unet.", "state_dict_vae."


class StableCodecCodec(LatentDiffusionCodec):
    """StableCodec at the rate of one checkpoint."""

    name = "stablecodec"
    package = __package__
    levels = LEVELS
    base = SD_TURBO
    words = WORDS
    padding = Padding(multiple=256, mode="reflect")
    counting = "the file, over the pixels of the picture"

    def build(self, config: Mapping[str, Any]) -> LatentCodec:
        """See the base."""
        return network.build(**config)

    def load_official(self, network_: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        refuse_unknown(state, (_CODEC, _UNET, _VAE))
        network.load_official(network_, network.under(state, _CODEC))

    def published(self, level: Level) -> Sequence[str]:
        """See the base."""
        return [published(level).name]

    def inputs(self, x: Tensor) -> Sequence[Tensor]:
        """See the base."""
        return network.inputs(self.vae_for(*x.shape[-2:]), self.auxiliary, x)

    def latent(self, coded: Mapping[str, Tensor], draw: Draw) -> Tensor:
        """See the base; its one step needs no noise."""
        # The prompt first: the text encoder is gone when the UNet comes.
        context, tiles = self.context, self.unet_tiles(*coded["h"].shape[-2:])
        return network.OneStep(self.unet, context, tiles).latent(coded)

    @property
    def unet(self) -> UNet2DConditionModel:
        """See the base; with its updates."""
        return self.latest(UNETS, self._updated_unet, self.checkpoint)

    @property
    def vae(self) -> AutoencoderKL:
        """See the base; with its updates."""
        return self.latest(VAES, self._updated_vae, self.checkpoint)

    def _updated_unet(self) -> UNet2DConditionModel:
        unet = self.base_weights.unet(torch.float32)
        network.update_unet(
            unet, network.under(self.weights.state, _UNET), self._latent_codec.latent_channels
        )
        return in_type(unet, self.dtype)

    def _updated_vae(self) -> AutoencoderKL:
        vae = self.base_weights.vae(torch.float32)
        network.update_vae(vae, network.under(self.weights.state, _VAE))
        return in_type(vae, self.dtype)

    @property
    def _latent_codec(self) -> LatentCodec:
        found = self.network
        assert isinstance(found, LatentCodec)
        return found

    @functools.cached_property
    def auxiliary(self) -> AuxiliaryEncoder:
        """The auxiliary encoder, with its weights, on its device."""
        path = self.auxiliary_path
        with self._named():
            state = read_weights(path, ("g_a.", "module.g_a.")).state
        with self._named(path):
            encoder = AuxiliaryEncoder(**self.config("auxiliary")).eval()
            plain = {name.removeprefix("module."): value for name, value in state.items()}
            network.load_auxiliary(encoder, plain, self.dtype)
        return encoder.requires_grad_(False).to(self._device)

    @property
    def auxiliary_path(self) -> Path:
        """Where the auxiliary encoder's weights are.

        Raises:
            RequirementError: they are not there.
        """
        path = checkpoint_folder(self.name, self.package, self.options) / AUXILIARY.name
        if not path.is_file():
            raise RequirementError(
                f"{self.name}: there is no {path}; get it from {AUXILIARY.source}"
            )
        return path

    def provenance(self) -> Mapping[str, str]:
        """See the base."""
        return {**super().provenance(), "auxiliary": file_hash(self.auxiliary_path)}

    def tiled(self, height: int, width: int) -> bool:
        """See the base: whatever is larger than a tile, as in the official code."""
        return True


def in_type(module: Any, dtype: torch.dtype) -> Any:
    """Return a network with weights in *dtype*, without gradients."""
    return module.to(dtype).requires_grad_(False)
