"""The controlled UNet of DiffEIC and RDEIC.

Beside the UNet of Stable Diffusion runs a narrow copy of its encoder, which also sees a
hint.  What it computes is added to the UNet's features: after each block of the encoder,
in the middle, and before each block of the decoder.  ControlNets of diffusers add nothing
within the encoder, so its blocks are called here one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from lossylens.errors import ConfigError
from torch import Tensor, nn

from lossylens_toolkit.latent_diffusion.ldm import (
    SD21_UNET,
    Named,
    load_module,
    renamed_unet,
    unet_config,
)
from lossylens_toolkit.latent_diffusion.tiles import UNetTiles

#: Prefix of its parameters, and its name in messages.
CONTROL = "control_model."
NAME = "the control network"

_MOST_GROUPS = 32

#: A block: features, embedded time, context to features.
Block = Callable[[Tensor, Tensor, Tensor], Tensor]


class Control(nn.Module):
    """The narrow encoder, and the convolutions by which it adds to the UNet's features.

    Args:
        base: configuration of the UNet, in diffusers' terms.
        narrow: that of the encoder.
    """

    def __init__(self, base: Mapping[str, Any], narrow: Mapping[str, Any]) -> None:
        super().__init__()
        # The time is embedded as in the UNet, not in the encoder's own width.
        width = 4 * base["block_out_channels"][0]
        # Group norms are set below; one group fits any number of channels.
        options = {**narrow, "norm_num_groups": 1, "time_embedding_dim": width}
        unet = UNet2DConditionModel(**options)
        self.control_model: Any = nn.ModuleDict(
            {
                "time_embedding": TimestepEmbedding(width // 4, width),
                "conv_in": unet.conv_in,
                "down_blocks": unet.down_blocks,
                "mid_block": unet.mid_block,
            }
        )
        for module in self.control_model.modules():
            if isinstance(module, nn.GroupNorm):
                module.num_groups = _groups(module.num_channels)
        inputs, inside = _encoder_widths(narrow), _encoder_widths(base)
        outputs = [inside[-1], *_decoder_widths(base)[:-1]]
        self.enc_zero_convs_out = _convolutions(inputs, inside)
        self.middle_block_out = nn.Sequential(nn.Conv2d(inputs[-1], inside[-1], 1))
        self.dec_zero_convs_out = _convolutions(inputs[::-1], outputs)
        self.register_buffer("scale_list", torch.ones(2 * len(inputs) + 1))

    def load(
        self, state: Mapping[str, Tensor], strict: bool = True, dtype: torch.dtype | None = None
    ) -> None:
        """Load what is under :data:`CONTROL`, in the names of the official checkpoints.

        Raises:
            ConfigError: names or shapes differ; nothing is loaded then.
        """
        load_module(self, self.named(state), NAME, strict=strict, dtype=dtype)

    def named(self, state: Mapping[str, Tensor]) -> Named:
        """Return by this module's names what is under :data:`CONTROL`."""
        inner = f"{CONTROL}control_model."
        blocks = self.control_model["down_blocks"][0].resnets
        given: dict[str, tuple[str, Tensor]] = {
            f"control_model.{name}" if name != found[0] else name: found
            for name, found in renamed_unet(state, len(blocks), inner).items()
        }
        for name, value in state.items():
            if name.startswith(CONTROL) and not name.startswith(inner):
                given[name.removeprefix(CONTROL)] = (name, value)
        given.setdefault(
            "scale_list", ("scale_list", torch.ones(2 * len(self.enc_zero_convs_out) + 1))
        )
        return given


def control_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the narrow encoder for that of the official one.

    Args:
        params: that of the UNet with ``hint_channels`` and ``control_model_ratio``.
    """
    narrow = {**SD21_UNET, **params}
    narrow["model_channels"] = int(params["model_channels"] * params["control_model_ratio"])
    narrow["in_channels"] = params["in_channels"] + params["hint_channels"]
    return unet_config(narrow)


def _groups(channels: int) -> int:
    """Return the largest divisor of *channels* that is at most 32."""
    return next(n for n in range(_MOST_GROUPS, 0, -1) if channels % n == 0)


def _encoder_widths(config: Mapping[str, Any]) -> list[int]:
    """Return the channels after each block of the encoder."""
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    widths = [channels[0]]
    for i, width in enumerate(channels):
        widths += [width] * (layers + (i < len(channels) - 1))
    return widths


def _decoder_widths(config: Mapping[str, Any]) -> list[int]:
    """Return the channels after each block of the decoder."""
    layers = config["layers_per_block"] + 1
    return [width for width in reversed(config["block_out_channels"]) for _ in range(layers)]


def _convolutions(inputs: list[int], outputs: list[int]) -> nn.ModuleList:
    pairs = zip(inputs, outputs, strict=True)
    return nn.ModuleList(nn.Sequential(nn.Conv2d(i, o, 1)) for i, o in pairs)


def encoder_blocks(conv_in: Any, down_blocks: Any) -> Iterator[Block]:
    """Yield the blocks of an encoder as the official code counts them."""
    yield functools.partial(_alone, conv_in)
    for block in down_blocks:
        yield from _layers(block)
        for halve in block.downsamplers or ():
            yield functools.partial(_alone, halve)


def _alone(layer: Any, h: Tensor, time: Tensor, context: Tensor) -> Tensor:
    return layer(h)


def _layers(block: Any) -> Iterator[Block]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    for resnet, attention in zip(block.resnets, attentions, strict=True):

        def layer(
            h: Tensor, time: Tensor, context: Tensor, resnet: Any = resnet, attend: Any = attention
        ) -> Tensor:
            h = resnet(h, time)
            return h if attend is None else attend(h, context, return_dict=False)[0]

        yield layer


def predict(
    unet: Any,
    control: Any,
    x: Tensor,
    hint: Tensor,
    t: int,
    context: Tensor,
) -> Tensor:
    """Return the noise in *x* that the controlled UNet predicts.

    Args:
        unet: the base, of diffusers.
        control: the :class:`Control` beside it.
        x: noisy latents ``(1, 4, h, w)``, whose sides are multiples of eight.
        hint: ``(1, C, h, w)``.
        t: the time, 0 to 999.
        context: embedding of the prompt, ``(1, tokens, C)``.
    """
    sinusoid = unet.time_proj(torch.full((1,), t, device=x.device)).to(x.dtype)
    time = unet.time_embedding(sinusoid)
    narrow = control.control_model
    narrow_time = narrow["time_embedding"](sinusoid)
    count = len(control.enc_zero_convs_out)
    scales = control.scale_list.to(x.dtype)
    h, beside = x, torch.cat([x, hint], 1)
    skips: list[Tensor] = []
    features: list[Tensor] = []
    pairs = zip(
        encoder_blocks(unet.conv_in, unet.down_blocks),
        encoder_blocks(narrow["conv_in"], narrow["down_blocks"]),
        strict=True,
    )
    for i, (block, other) in enumerate(pairs):
        h, beside = block(h, time, context), other(beside, narrow_time, context)
        h = h + scales[i] * control.enc_zero_convs_out[i](beside)
        skips.append(h)
        features.append(beside)
    h = unet.mid_block(h, time, encoder_hidden_states=context)
    beside = narrow["mid_block"](beside, narrow_time, encoder_hidden_states=context)
    h = h + scales[count] * control.middle_block_out(beside)
    j = 0
    for up in unet.up_blocks:
        for layer in _layers(up):
            added = control.dec_zero_convs_out[j](features.pop())
            h = h + scales[count + 1 + j] * added
            h = layer(torch.cat([h, skips.pop()], 1), time, context)
            j += 1
        for double in up.upsamplers or ():
            h = double(h)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


@dataclass(frozen=True)
class ControlledDiffusion:
    """What predicts the noise in latents.

    Attributes:
        unet: the base.
        control: beside it.
        context: embedding of the prompt, ``(1, tokens, C)``.
        tiles: of large latents.
        guidance: 1 for the controlled prediction; 0 for that of the UNet alone; other
            values for what lies between or beyond.
    """

    unet: UNet2DConditionModel
    control: Control
    context: Tensor
    tiles: UNetTiles = field(default_factory=UNetTiles)
    guidance: float = 1.0

    def predict(self, x: Tensor, hint: Tensor, t: int) -> Tensor:
        """Return the noise in *x*, in float32; see :func:`predict`."""
        dtype = self.unet.dtype
        latents, hints, context = x.to(dtype), hint.to(dtype), self.context.to(dtype)

        def part(rows: slice, columns: slice) -> Tensor:
            tile = latents[..., rows, columns]
            hint = hints[..., rows, columns]
            eps = predict(self.unet, self.control, tile, hint, t, context)
            if self.guidance == 1.0:
                return eps
            plain = self.unet(tile, t, context, return_dict=False)[0]
            return plain + self.guidance * (eps - plain)

        return self.tiles.apply(part, *x.shape[-2:]).float()


def check_fit(unet: UNet2DConditionModel, control: Control) -> None:
    """Raise :class:`ConfigError` if *control* is not for a UNet of this size."""
    widths = _encoder_widths(unet.config)
    convolutions: Any = control.enc_zero_convs_out
    found = [each[0].out_channels for each in convolutions]
    if found != widths:
        raise ConfigError("the checkpoint is for base weights of another size")
