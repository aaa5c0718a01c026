"""The whole of a codec with a controlled UNet, as an official state dict holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lossylens.errors import ConfigError
from torch import Tensor, nn

from lossylens_toolkit.latent_diffusion.control import CONTROL, NAME, Control, control_config
from lossylens_toolkit.latent_diffusion.diffusion_network import GuidedNetwork
from lossylens_toolkit.latent_diffusion.ldm import (
    SD21_UNET,
    SD_VAE,
    UNET,
    VAE,
    build_unet,
    build_vae,
    check_module,
    load_module,
    renamed_unet,
    renamed_vae,
    unet_config,
    vae_config,
)
from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters

#: Prefix of the network that codes the latent.
CODEC = "preprocess_model."

#: Of an official state dict: what decoding has no use for.
_UNUSED = (
    "cond_stage_model.",
    "model_ema.",
    "perceptual_loss.",
    "loss.",
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "lvlb_weights",
    "logvar",
    "scale_factor",
)
#: Buffers of the codec that only training has a use for.
_TRAINING = ("quantize.embed_prob", "quantize.usage")


class ControlledChain(nn.Module):
    """UNet, control, VAE and codec.

    UNet and VAE have no weights in memory before :meth:`load`.

    Args:
        codec: codes the latent.
        unet: configuration of the UNet, in official terms.
        control: that of the control.
        vae: that of the VAE.
    """

    def __init__(
        self,
        codec: GuidedNetwork,
        unet: Mapping[str, Any],
        control: Mapping[str, Any],
        vae: Mapping[str, Any],
    ) -> None:
        super().__init__()
        config = unet_config(unet)
        self.codec = codec
        self.unet = build_unet(config)
        self.control = Control(config, control_config(control))
        self.vae = build_vae(vae_config(vae))
        self.eval()

    def load(self, state: Mapping[str, Tensor], strict: bool = True) -> None:
        """Load a state dict in official names.

        Raises:
            ConfigError: names or shapes differ; nothing is loaded then.
        """
        prefixes = (UNET, VAE, CONTROL, CODEC)
        if strict:
            refuse_unknown(state, prefixes)
        layers = self.unet.config["layers_per_block"]
        blocks = self.vae.config["block_out_channels"]
        parts = (
            (self.unet, renamed_unet(state, layers), "the UNet"),
            (self.vae, renamed_vae(state, len(blocks)), "the VAE"),
            (self.control, self.control.named(state), NAME),
        )
        for part, given, what in parts:
            check_module(part, given, what, strict=strict)
        load_codec(self.codec, state, strict)
        for part, given, what in parts:
            load_module(part, given, what, strict=strict)


def chain_builder(
    build: Callable[..., GuidedNetwork], control: Mapping[str, Any]
) -> Callable[..., ControlledChain]:
    """Return the function that builds all networks of a codec, by default of the official size.

    Args:
        build: the codec's network.
        control: configuration of the official control.
    """

    def build_chain(
        unet_config: Mapping[str, Any] = SD21_UNET,
        control_stage_config: Mapping[str, Any] = control,
        first_stage_ddconfig: Mapping[str, Any] = SD_VAE,
        preprocess_config: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> ControlledChain:
        """Return all networks of the codec.

        Args:
            unet_config: of the UNet, as in the official configuration.
            control_stage_config: of the control.
            first_stage_ddconfig: of the VAE.
            preprocess_config: arguments of the codec's ``build``.
            others: what does not shape the networks.
        """
        codec = build(**(preprocess_config or {}))
        return ControlledChain(codec, unet_config, control_stage_config, first_stage_ddconfig)

    return build_chain


def refuse_unknown(state: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> None:
    """Raise :class:`ConfigError` if *state* holds what is under none of *prefixes*.

    What official files hold beside weights that are used is let pass.
    """
    unknown = [name for name in state if not name.startswith((*prefixes, *_UNUSED))]
    if unknown:
        rest = ", ..." if len(unknown) > 3 else ""
        raise ConfigError(
            "the checkpoint is of another model, nothing was loaded:"
            f" {len(unknown)} unknown ({', '.join(unknown[:3])}{rest})"
        )


def load_codec(network: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load the codec's parameters, with or without :data:`CODEC` before their names.

    Raises:
        ConfigError: names or shapes differ; nothing is loaded then.
    """
    within = {name: value for name, value in state.items() if name.startswith(CODEC)}

    def rename(name: str) -> str:
        return name.removeprefix(CODEC)

    given = {name: v for name, v in (within or state).items() if rename(name) not in _TRAINING}
    load_parameters(network, given, strict, rename=rename)


def load_official(
    network: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True
) -> None:
    """Load parameters in the names of the official checkpoints.

    Args:
        network: a codec alone or a :class:`ControlledChain`.
        state_dict: of the codec, with or without its prefix, or of everything.
        strict: whether each parameter must be there and no other.

    Raises:
        ConfigError: names or shapes differ.
    """
    if isinstance(network, ControlledChain):
        network.load(state_dict, strict)
    else:
        load_codec(network, state_dict, strict)


def official_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return the codec's parameters in the names of the official checkpoints, without prefix."""
    return parameters(network.codec if isinstance(network, ControlledChain) else network)
