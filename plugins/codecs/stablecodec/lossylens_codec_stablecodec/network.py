"""StableCodec: its networks, with the names of the official checkpoints, and its one step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from lossylens_toolkit.latent_diffusion.chain import refuse_unknown
from lossylens_toolkit.latent_diffusion.ldm import (
    SD21_UNET,
    SD_VAE,
    build_unet,
    build_vae,
    check_module,
    load_module,
    unet_config,
    vae_config,
)
from lossylens_toolkit.latent_diffusion.lora import merged
from lossylens_toolkit.latent_diffusion.sampling import TIMES, denoised, schedule
from lossylens_toolkit.latent_diffusion.tiles import UNetTiles
from lossylens_toolkit.latent_diffusion.vae import Vae
from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters
from torch import Tensor, nn

from lossylens_codec_stablecodec.auxiliary import AuxiliaryEncoder
from lossylens_codec_stablecodec.latent_codec import LatentCodec

#: The one time at which the UNet is asked.
TIME = TIMES - 1

#: peft's default of ``lora_alpha``, by which the checkpoints were made.
ALPHA = 8

#: Which modules of the UNet have low-rank updates.
UNET_TARGETS = re.compile(
    r"(^|\.)(to_k|to_q|to_v|to_out\.0|conv|conv1|conv2|conv_shortcut|conv_out|proj_in|proj_out"
    r"|ff\.net\.2|ff\.net\.0\.proj)$"
)
#: Which modules of the VAE.
VAE_TARGETS = re.compile(
    r"^encoder\..*(conv1|conv2|conv_in|conv_shortcut|conv|conv_out|to_k|to_q|to_v|to_out\.0)$"
)
#: What a checkpoint holds of the UNet itself, beside the updates.
REPLACED = ("conv_in.weight", "conv_in.bias")

_AUXILIARY = "aux_codec."

#: Of the auxiliary encoder, in messages.
AUXILIARY_NAME = "the auxiliary encoder"


def build(
    M: int = 320,  # noqa: N803
    latent: int = 4,
    features: int = 320,
    context: int = 960,
    context_blocks: int = 4,
    **others: Any,
) -> LatentCodec:
    """Return an untrained network that codes the latent, by default of the official size.

    Args:
        M: channels of y.
        latent: channels of the latent.
        features: channels of the auxiliary encoder's features.
        context: channels of the context model.
        context_blocks: its blocks.
        others: what does not shape the network, as ``lambda_rate``.

    Raises:
        ValueError: M is no multiple of 16.
    """
    if M % 16 or M < 16:
        raise ValueError(f"M = {M} is no multiple of 16")
    return LatentCodec(M, latent, features, context, context_blocks).eval()


def official_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of the latent's codec in the names of the official checkpoints."""
    return parameters(network.codec if isinstance(network, StableCodecChain) else network)


class StableCodecChain(nn.Module):
    """UNet, VAE, auxiliary encoder and codec.

    UNet and VAE have no weights in memory before they are loaded.  Where diffusers' names
    and peft's ``base_layer``, ``lora_A`` and ``lora_B`` occur in a state dict, the updates
    are merged into the weights.

    Args:
        unet: configuration of the UNet, in diffusers' terms.
        vae: that of the VAE.
        codec: the latent's codec.
        auxiliary: the auxiliary encoder.
    """

    def __init__(
        self,
        unet: Mapping[str, Any],
        vae: Mapping[str, Any],
        codec: LatentCodec,
        auxiliary: AuxiliaryEncoder,
    ) -> None:
        super().__init__()
        self.unet = with_input(build_unet(unet), codec.latent_channels)
        self.vae = build_vae(vae)
        self.codec = codec
        self.aux_codec = auxiliary
        self.eval()

    def load(self, state: Mapping[str, Tensor], strict: bool = True) -> None:
        """Load a state dict with the prefixes ``unet.``, ``vae.``, ``codec.``, ``aux_codec.``.

        Raises:
            ConfigError: names or shapes differ; nothing is loaded then.
        """
        if strict:
            refuse_unknown(state, ("unet.", "vae.", "codec.", _AUXILIARY))
        unet, vae, codec = (under(state, f"{name}.") for name in ("unet", "vae", "codec"))
        parts = (
            (self.unet, merged(unet, UNET_TARGETS, ALPHA), "the UNet"),
            (self.vae, merged(vae, VAE_TARGETS, ALPHA), "the VAE"),
            (self.aux_codec, auxiliary_named(state, _AUXILIARY), AUXILIARY_NAME),
        )
        for part, given, what in parts:
            check_module(part, given, what, strict=strict)
        load_parameters(self.codec, codec, strict)
        for part, given, what in parts:
            load_module(part, given, what, strict=strict)


def build_chain(
    unet: Mapping[str, Any] | None = None,
    vae: Mapping[str, Any] | None = None,
    codec_config: Mapping[str, Any] | None = None,
    auxiliary_config: Mapping[str, Any] | None = None,
    **others: Any,
) -> StableCodecChain:
    """Return all networks of StableCodec, by default of the official size.

    Args:
        unet: configuration of the UNet in diffusers' terms.
        vae: that of the VAE.
        codec_config: arguments of :func:`build`.
        auxiliary_config: arguments of the auxiliary encoder.
        others: what does not shape the networks.
    """
    return StableCodecChain(
        unet or unet_config(SD21_UNET),
        vae or vae_config(SD_VAE),
        build(**(codec_config or {})),
        AuxiliaryEncoder(**(auxiliary_config or {})).eval(),
    )


def with_input(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """Give *unet* a first convolution that takes *channels*."""
    old = unet.conv_in
    device = old.weight.device
    unet.conv_in = nn.Conv2d(channels, old.out_channels, 3, padding=1, device=device)
    return unet


def load_official(
    network: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True
) -> None:
    """Load parameters in the names of the official checkpoints.

    Args:
        network: of :func:`build` or :func:`build_chain`.
        state_dict: of the codec, or of everything; see :meth:`StableCodecChain.load`.
        strict: whether each parameter must be there and no other.

    Raises:
        ConfigError: names or shapes differ.
    """
    if isinstance(network, StableCodecChain):
        network.load(state_dict, strict)
    else:
        load_parameters(network, under(state_dict, "codec.") or state_dict, strict)


def load_auxiliary(
    encoder: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Load ELIC's analysis transform from a whole ELIC, of which the rest is not needed.

    Raises:
        ConfigError: names or shapes differ; nothing is loaded then.
    """
    load_module(encoder, auxiliary_named(state, "g_a."), AUXILIARY_NAME, dtype=dtype)


def auxiliary_named(state: Mapping[str, Tensor], prefix: str) -> dict[str, tuple[str, Tensor]]:
    """Return by the encoder's names what is under *prefix*: official name and tensor."""
    return {name: (prefix + name, value) for name, value in under(state, prefix).items()}


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return what has *prefix* before its name, without it."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def inputs(vae: Vae, auxiliary: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the codec takes of a picture in 0..1: its scaled latent, and features."""
    return vae.encode(2 * x - 1), auxiliary(x.to(next(auxiliary.parameters()).dtype))


@dataclass(frozen=True)
class OneStep:
    """The diffusion model in one step.

    Attributes:
        unet: with its updates.
        context: embedding of the prompt, ``(1, tokens, C)``.
        tiles: of large latents.
    """

    unet: UNet2DConditionModel
    context: Tensor
    tiles: UNetTiles = field(default_factory=UNetTiles)

    def predict(self, h: Tensor) -> Tensor:
        """Return the noise in the latent that the UNet sees in *h*, in float32."""
        features, context = h.to(self.unet.dtype), self.context.to(self.unet.dtype)

        def part(rows: slice, columns: slice) -> Tensor:
            tile = features[..., rows, columns]
            return self.unet(tile, TIME, context, return_dict=False)[0]

        return self.tiles.apply(part, *h.shape[-2:]).float()

    def latent(self, coded: Mapping[str, Tensor]) -> Tensor:
        """Return the scaled latent of what the codec reconstructs of one picture."""
        h, res = coded["h"].float(), coded["res"].float()
        noisy = h[:, : res.shape[1]]
        return denoised(noisy, self.predict(h), float(schedule()[TIME])) + res


def update_unet(unet: UNet2DConditionModel, state: Mapping[str, Tensor], channels: int) -> None:
    """Merge a checkpoint's updates into the UNet, whose first convolution it replaces.

    Args:
        unet: of the base weights.
        state: updates in peft's names, and the first convolution.
        channels: that the first convolution takes.

    Raises:
        ConfigError: the checkpoint is of another architecture.
    """
    own = {name: v for name, v in unet.state_dict().items() if name not in REPLACED}
    named = merged({**own, **state}, UNET_TARGETS, ALPHA, required=True)
    with_input(unet, channels)
    load_module(unet, named, "the UNet")


def update_vae(vae: AutoencoderKL, state: Mapping[str, Tensor]) -> None:
    """Merge a checkpoint's updates into the VAE; see :func:`update_unet`."""
    named = merged({**vae.state_dict(), **state}, VAE_TARGETS, ALPHA, required=True)
    load_module(vae, named, "the VAE")
