"""Networks of latent diffusion in the names and configurations of the official checkpoints.

The networks are those of diffusers, and so are the rules by which its names follow from
those of Rombach et al.'s code, "High-Resolution Image Synthesis with Latent Diffusion
Models", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    create_unet_diffusers_config_from_ldm,
    create_vae_diffusers_config_from_ldm,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from lossylens.errors import ConfigError
from torch import Tensor, nn

UNET = "model.diffusion_model."
VAE = "first_stage_model."

#: The UNet of Stable Diffusion 2.1 and of SD-Turbo.
SD21_UNET: Mapping[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "transformer_depth": 1,
    "context_dim": 1024,
}

#: The VAE of all Stable Diffusion models to 2.1.
SD_VAE: Mapping[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}

#: By which latents are multiplied.
SCALE = 0.18215

_SHOWN = 3
_PROJECTIONS = ("q.weight", "k.weight", "v.weight", "proj_out.weight")


def unet_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of diffusers' UNet for those of the official one."""
    return create_unet_diffusers_config_from_ldm(_original(params, SD_VAE), {})


def vae_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of diffusers' VAE for those of the official one."""
    return create_vae_diffusers_config_from_ldm(_original(SD21_UNET, params), {})


def _original(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> dict[str, Any]:
    params = {
        "unet_config": {"params": dict(unet)},
        "first_stage_config": {"params": {"ddconfig": dict(vae)}},
        "scale_factor": SCALE,
    }
    return {"model": {"params": params}}


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """Return a UNet of diffusers without weights in memory; see :func:`load_module`."""
    with torch.device("meta"):
        return UNet2DConditionModel(**config).eval()


def build_vae(config: Mapping[str, Any]) -> AutoencoderKL:
    """Return a VAE of diffusers without weights in memory; see :func:`load_module`."""
    with torch.device("meta"):
        return AutoencoderKL(**config).eval()


Named = Mapping[str, tuple[str, Tensor]]


def renamed_unet(
    state: Mapping[str, Tensor], layers_per_block: int, prefix: str = UNET
) -> dict[str, tuple[str, Tensor]]:
    """Return by diffusers' name what *state* holds of a UNet: official name and tensor.

    Unknown parameters keep their official name.
    """
    config = {"layers_per_block": layers_per_block}
    return _renamed(state, prefix, UNET, lambda part: convert_ldm_unet_checkpoint(part, config))


def renamed_vae(
    state: Mapping[str, Tensor], blocks: int, prefix: str = VAE
) -> dict[str, tuple[str, Tensor]]:
    """Return by diffusers' name what *state* holds of a VAE with so many *blocks*."""
    config = {"down_block_types": [""] * blocks, "up_block_types": [""] * blocks}
    return _renamed(state, prefix, VAE, lambda part: convert_ldm_vae_checkpoint(part, config))


def _renamed(
    state: Mapping[str, Tensor],
    prefix: str,
    expected: str,
    convert: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
) -> dict[str, tuple[str, Tensor]]:
    given = {
        expected + name.removeprefix(prefix): (name, _linear(name, value))
        for name, value in state.items()
        if name.startswith(prefix)
    }
    # What the converter does not know it leaves out; tensors are told by their identity.
    official = {id(value): name for name, value in given.values()}
    converted = convert({name: value for name, (_, value) in given.items()})
    result = {new: (official.pop(id(value)), value) for new, value in converted.items()}
    return result | {name: (name, state[name]) for name in official.values()}


def _linear(name: str, value: Tensor) -> Tensor:
    """Return the weight of the VAE's attention, a convolution of 1x1, as that of a linear layer."""
    if name.endswith(_PROJECTIONS) and ".mid.attn_" in name and value.ndim == 4:
        return value[:, :, 0, 0]
    return value.detach()  # an object of its own for each name


def load_module(
    module: nn.Module,
    given: Named,
    what: str,
    *,
    strict: bool = True,
    dtype: torch.dtype | None = None,
) -> None:
    """Give *module* the tensors in *given* as its parameters and buffers.

    Args:
        module: whose tensors may lie on the meta device.
        given: by the name in *module*: official name and tensor.
        what: the module's name, for messages.
        strict: whether each must be there and no other.
        dtype: of the result; by default each keeps its own.

    Raises:
        ConfigError: names or shapes differ; nothing is loaded then.
    """
    check_module(module, given, what, strict=strict)
    own = module.state_dict()
    found = {name: value for name, (_, value) in given.items() if name in own}
    state = {name: value.to(dtype or value.dtype) for name, value in found.items()}
    module.load_state_dict(state, strict=False, assign=True)


def check_module(module: nn.Module, given: Named, what: str, *, strict: bool = True) -> None:
    """Raise :class:`ConfigError` if :func:`load_module` would."""
    own = module.state_dict()
    shapes = [
        f"{official} {_shape(value)} instead of {_shape(own[name])}"
        for name, (official, value) in given.items()
        if name in own and value.shape != own[name].shape
    ]
    absent = [name for name in own if name not in given] if strict else []
    unknown = [official for name, (official, _) in given.items() if strict and name not in own]
    groups = (("absent", absent), ("unknown", unknown), ("of another shape", shapes))
    found = "; ".join(_listed(kind, names) for kind, names in groups if names)
    if found:
        raise ConfigError(f"{what} is of another architecture, nothing was loaded: {found}")


def _listed(kind: str, names: list[str]) -> str:
    rest = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{rest})"


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"
