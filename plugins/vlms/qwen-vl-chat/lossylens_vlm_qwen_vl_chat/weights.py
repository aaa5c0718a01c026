"""The weights of an official checkpoint, key for key.

The vision encoder's modules have the checkpoint's names.  The language model is run by
Qwen2's classes, which split the joint projection and name things differently; up to 2048
tokens the two compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lossylens_toolkit.transformers_vlm.official import read_weights as read_official
from torch import Tensor
from transformers import Qwen2ForCausalLM

from lossylens_vlm_qwen_vl_chat.configuration import QwenVLConfig
from lossylens_vlm_qwen_vl_chat.vision import VisionEncoder

VISION_PREFIX = "transformer.visual."

#: Official name to Qwen2's, outside layers and within one.
_OUTSIDE = {
    "transformer.wte.weight": "model.embed_tokens.weight",
    "transformer.ln_f.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
_WITHIN = {
    "ln_1.weight": ("input_layernorm.weight",),
    "attn.c_attn.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
    "attn.c_attn.bias": tuple(f"self_attn.{part}_proj.bias" for part in "qkv"),
    "attn.c_proj.weight": ("self_attn.o_proj.weight",),
    "ln_2.weight": ("post_attention_layernorm.weight",),
    # The activation is applied to w2.
    "mlp.w1.weight": ("mlp.up_proj.weight",),
    "mlp.w2.weight": ("mlp.gate_proj.weight",),
    "mlp.c_proj.weight": ("mlp.down_proj.weight",),
}

#: Ends of names that old files hold and that are no weights.
_BUFFERS = (".rotary_emb.inv_freq", ".attn.masked_bias", ".attn.bias")


def language_names(layers: int) -> dict[str, tuple[str, ...]]:
    """Return the official names of the language model's tensors with those in Qwen2.

    Where there are several, they follow each other along the first dimension.
    """
    names: dict[str, tuple[str, ...]] = {name: (ours,) for name, ours in _OUTSIDE.items()}
    for layer in range(layers):
        for official, ours in _WITHIN.items():
            names[f"transformer.h.{layer}.{official}"] = tuple(
                f"model.layers.{layer}.{each}" for each in ours
            )
    return names


def expected_shapes(config: QwenVLConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a checkpoint of *config* holds."""
    with torch.device("meta"):
        vision = VisionEncoder(config.vision).state_dict()
        language = Qwen2ForCausalLM(config.text).state_dict()
    shapes = {f"{VISION_PREFIX}{name}": tuple(each.shape) for name, each in vision.items()}
    for official, ours in language_names(config.text.num_hidden_layers).items():
        rows = sum(language[name].shape[0] for name in ours)
        shapes[official] = (rows, *language[ours[0]].shape[1:])
    return shapes


def read_weights(files: Sequence[Path], config: QwenVLConfig) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint by their official names.

    Raises:
        RequirementError: see :func:`lossylens_toolkit.transformers_vlm.official.read_weights`.
    """
    return read_official(files, expected_shapes(config), "Qwen-VL-Chat", _BUFFERS)


def language_state(weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return the language model's tensors under Qwen2's names."""
    state: dict[str, Tensor] = {}
    for official, ours in language_names(layers).items():
        state |= dict(zip(ours, weights[official].chunk(len(ours)), strict=True))
    return state


def vision_encoder(
    weights: Mapping[str, Tensor], config: QwenVLConfig, device: torch.device, dtype: torch.dtype
) -> VisionEncoder:
    """Return the vision encoder with its weights."""
    with torch.device("meta"):
        encoder = VisionEncoder(config.vision)
    state = {
        name.removeprefix(VISION_PREFIX): tensor.to(device, dtype)
        for name, tensor in weights.items()
        if name.startswith(VISION_PREFIX)
    }
    encoder.load_state_dict(state, assign=True)
    return encoder.eval().requires_grad_(False)
