"""Where the language model starts from, once the vision encoder can see.

Questions teach a freshly initialised language model very slowly to look at the
picture: it has to find, by chance, that a word should attend to the cells that
show what it means.  Two choices at the start make that nearly the case:

* The embedding of a word is the direction in which the vision encoder, trained on
  the dense targets before, writes what the word means.
* Queries match keys, and values pass through, as in attention layers that are
  trained already (Trockman and Kolter, Mimetic Initialization of Self-Attention
  Layers, arXiv:2305.09828).
"""

from __future__ import annotations

from typing import Any

import torch
from lossylens_task_scenes.vocabulary import COLORS, PLURALS, SHAPES, TEXTURES
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from lossylens_vlm_nano.training.targets import LETTERS, channels


@torch.no_grad()
def centre_features(
    model: Qwen2_5_VLForConditionalGeneration, head: nn.Linear, features: Tensor
) -> None:
    """Take what all cells share out of the visual features; the head sees no difference.

    Args:
        model, head: changed in place.
        features: (..., width), of some pictures.
    """
    shared = features.flatten(0, -2).mean(0)
    head.bias += head.weight @ shared
    merger: Any = model.model.visual.merger
    merger.mlp[-1].bias -= shared


def word_directions(head: nn.Linear) -> dict[str, Tensor]:
    """Return the direction of each word in the space of visual features, of unit length."""
    weight = head.weight.detach()
    pairs = weight[channels("pairs")].view(len(SHAPES), len(COLORS), -1)
    groups = {
        SHAPES: pairs.mean(1),
        COLORS: pairs.mean(0),
        TEXTURES: weight[channels("textures")],
        tuple(LETTERS): weight[channels("letters")],
    }
    directions = {}
    for words, vectors in groups.items():
        # What all of a group share says that there is something, not what.
        vectors = vectors - vectors.mean(0)
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        directions.update(zip(words, vectors, strict=True))
    return directions


@torch.no_grad()
def start_text(
    model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, head: nn.Linear
) -> None:
    """Initialise the language model of *model* in place."""
    embeddings: Any = model.get_input_embeddings()
    width = embeddings.weight.shape[1]
    nn.init.normal_(embeddings.weight, std=width**-0.5)
    for word, direction in word_directions(head).items():
        for form in {word, f" {word}", PLURALS.get(word, word), f" {PLURALS.get(word, word)}"}:
            first = tokenizer.encode(form, add_special_tokens=False)[0]
            embeddings.weight[first] = direction + 0.3 * embeddings.weight[first]
    text: Any = model.model.language_model
    for layer in text.layers:
        _match_and_pass(layer.self_attn)
        for matrix in (layer.mlp.gate_proj, layer.mlp.up_proj):
            nn.init.normal_(matrix.weight, std=width**-0.5)
        nn.init.normal_(layer.mlp.down_proj.weight, std=0.3 * width**-0.5)
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            nn.init.ones_(norm.weight)
    nn.init.ones_(text.norm.weight)


def _match_and_pass(attention: Any, sharpness: float = 2.0, share: float = 0.5) -> None:
    """Make scores grow with likeness, and the output the attended vectors."""
    groups = attention.config.num_key_value_heads
    per_group = attention.config.num_attention_heads // groups
    head_width = attention.head_dim
    width = attention.q_proj.weight.shape[1]
    for group in range(groups):
        key, value = (torch.randn(head_width, width) * width**-0.5 for _ in range(2))
        rows = slice(group * head_width, (group + 1) * head_width)
        attention.k_proj.weight[rows] = sharpness * key
        attention.v_proj.weight[rows] = value
        for head in range(group * per_group, (group + 1) * per_group):
            rows = slice(head * head_width, (head + 1) * head_width)
            noise = torch.randn(head_width, width) * width**-0.5
            attention.q_proj.weight[rows] = sharpness * (key + 0.3 * noise)
            attention.o_proj.weight[:, rows] = share * value.T
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        nn.init.zeros_(projection.bias)
