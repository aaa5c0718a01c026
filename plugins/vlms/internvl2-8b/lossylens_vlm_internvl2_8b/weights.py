"""The weights of an official checkpoint, key for key, under the names of transformers.

InternViT has query, key and value in one projection, one after the other.  InternLM2 has
them in one, too, but grouped: the queries that share a key-value head, its key, its value,
then those of the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lossylens_toolkit.transformers_vlm.official import read_weights as read_official
from torch import Tensor
from transformers import InternVLForConditionalGeneration

#: Beginnings of names: official, and in transformers.  ``*`` is the number of a layer.
_PLACES = {
    "vision_model.embeddings": "model.vision_tower.embeddings",
    "vision_model.encoder.layers.*": "model.vision_tower.encoder.layer.*",
    "mlp1": "model.multi_modal_projector",
    "language_model.model": "model.language_model",
    "language_model.model.layers.*": "model.language_model.layers.*",
    "language_model": "lm_head",
}

#: Ends of names at each place.  Several take parts of one tensor.
_ENDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "vision_model.embeddings": {
        "class_embedding": ("cls_token",),
        "position_embedding": ("position_embeddings",),
        "patch_embedding.weight": ("patch_embeddings.projection.weight",),
        "patch_embedding.bias": ("patch_embeddings.projection.bias",),
    },
    "vision_model.encoder.layers.*": {
        "ls1": ("lambda_1",),
        "ls2": ("lambda_2",),
        **{
            f"{official}.{kind}": tuple(f"{ours}.{kind}" for ours in names)
            for official, names in {
                "attn.qkv": tuple(f"attention.{part}_proj" for part in "qkv"),
                "attn.proj": ("attention.projection_layer",),
                "mlp.fc1": ("mlp.fc1",),
                "mlp.fc2": ("mlp.fc2",),
                "norm1": ("layernorm_before",),
                "norm2": ("layernorm_after",),
            }.items()
            for kind in ("weight", "bias")
        },
    },
    "mlp1": {
        f"{official}.{kind}": (f"{ours}.{kind}",)
        for official, ours in {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}.items()
        for kind in ("weight", "bias")
    },
    "language_model.model": {
        "tok_embeddings.weight": ("embed_tokens.weight",),
        "norm.weight": ("norm.weight",),
    },
    "language_model.model.layers.*": {
        "attention.wqkv.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
        "attention.wo.weight": ("self_attn.o_proj.weight",),
        "attention_norm.weight": ("input_layernorm.weight",),
        "ffn_norm.weight": ("post_attention_layernorm.weight",),
        # The activation is applied to w1.
        "feed_forward.w1.weight": ("mlp.gate_proj.weight",),
        "feed_forward.w3.weight": ("mlp.up_proj.weight",),
        "feed_forward.w2.weight": ("mlp.down_proj.weight",),
    },
    "language_model": {"output.weight": ("weight",)},
}

#: Of the language model's one projection.
_GROUPED = "attention.wqkv.weight"


def names(config: Any) -> dict[str, tuple[str, ...]]:
    """Return the official names of all tensors with those in transformers.

    Args:
        config: of the model, as :func:`~.configuration.read_config` returns it.
    """
    return {
        f"{official}.{end}": tuple(f"{place}.{each}" for each in ours)
        for pattern, ends in _ENDS.items()
        for official, place in _numbered(pattern, config)
        for end, ours in ends.items()
    }


def _numbered(pattern: str, config: Any) -> Iterator[tuple[str, str]]:
    if "*" not in pattern:
        yield pattern, _PLACES[pattern]
        return
    vision = pattern.startswith("vision")
    part = config.vision_config if vision else config.text_config
    for layer in range(part.num_hidden_layers):
        yield pattern.replace("*", str(layer)), _PLACES[pattern].replace("*", str(layer))


def expected_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a checkpoint of *config* holds."""
    with torch.device("meta"):
        state = InternVLForConditionalGeneration(config).state_dict()
    shapes = {}
    for official, ours in names(config).items():
        rows = sum(state[name].shape[0] for name in ours)
        shapes[official] = (rows, *state[ours[0]].shape[1:])
    return shapes


def read_weights(files: Sequence[Path], config: Any) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint under the names of transformers.

    Raises:
        RequirementError: see :func:`lossylens_toolkit.transformers_vlm.official.read_weights`.
    """
    weights = read_official(files, expected_shapes(config), "InternVL2-8B", (".inv_freq",))
    shared = config.text_config.num_key_value_heads
    groups = config.text_config.num_attention_heads // shared
    state: dict[str, Tensor] = {}
    for official, ours in names(config).items():
        weight = weights.pop(official)
        grouped = official.endswith(_GROUPED)
        parts = ungrouped(weight, shared, groups) if grouped else weight.chunk(len(ours))
        state |= dict(zip(ours, parts, strict=True))
    return state


def ungrouped(weight: Tensor, shared: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value of InternLM2's joint projection.

    Args:
        weight: ``(shared * (groups + 2) * head width, width)``.
        shared: number of key-value heads.
        groups: query heads for each.
    """
    by_head = weight.unflatten(0, (shared, groups + 2, -1))
    query, key, value = by_head.split([groups, 1, 1], dim=1)
    return query.flatten(0, 2), key.flatten(0, 2), value.flatten(0, 2)
