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
    head.bias.add_(head.weight @ shared)
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
    directions: dict[str, Tensor] = {}
    for words, vectors in groups.items():
        # What all of a group share says that there is something, not what.
        vectors = vectors - vectors.mean(0)
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        directions.update(zip(words, vectors, strict=True))
    return directions


@torch.no_grad()
def start_text(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    head: nn.Linear,
) -> None:
    """Initialise the language model of *model* in place.

    Args:
        model: with its vision encoder trained, and its features centred.
        tokenizer: of the model.
        head: the dense targets' head.
    """
    embeddings: Any = model.get_input_embeddings()
    width = embeddings.weight.shape[1]
    nn.init.normal_(embeddings.weight, std=width**-0.5)
    for word, direction in word_directions(head).items():
        for form in {word, f" {word}", PLURALS.get(word, word), f" {PLURALS.get(word, word)}"}:
            first = tokenizer.encode(form, add_special_tokens=False)[0]
            embeddings.weight[first] = direction + 0.3 * embeddings.weight[first]
    # A mark that all words bear and cells do not, by which attention tells them apart.
    mark = nn.functional.normalize(torch.randn(width), dim=0)
    embeddings.weight += 0.5 * mark
    text: Any = model.model.language_model
    for layer in text.layers:
        _match_and_pass(layer.self_attn, mark)
        for matrix in (layer.mlp.gate_proj, layer.mlp.up_proj):
            nn.init.normal_(matrix.weight, std=width**-0.5)
        nn.init.normal_(layer.mlp.down_proj.weight, std=0.3 * width**-0.5)
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            nn.init.ones_(norm.weight)
    nn.init.ones_(text.norm.weight)


def _match_and_pass(
    attention: Any, mark: Tensor, sharpness: float = 1.4, handicap: float = 13.0, share: float = 0.5
) -> None:
    """Let half of the heads look at cells like the word, and the output be what is looked at.

    If words were not put at a disadvantage, a word would look at itself, which it is
    like most.
    """
    groups = attention.config.num_key_value_heads
    per_group = attention.config.num_attention_heads // groups
    head_width = attention.head_dim
    width = attention.q_proj.weight.shape[1]
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        nn.init.normal_(projection.weight, std=width**-0.5)
        nn.init.zeros_(projection.bias)
    # The pair of dimensions that rotary embeddings turn least.
    still = head_width // 2 - 1
    marked = (0.5 / 1.25**0.5) * width**0.5
    for group in range(groups):
        rows = slice(group * head_width, (group + 1) * head_width)
        key, value = attention.k_proj.weight[rows], attention.v_proj.weight[rows]
        looks = group < groups // 2
        if looks:
            key *= sharpness
            key[still] = mark
        for head in range(group * per_group, (group + 1) * per_group):
            first = head * head_width
            query = attention.q_proj.weight[first : first + head_width]
            if looks:
                query.copy_(key + 0.2 * query)
                query[still] = 0
                attention.q_proj.bias[first + still] = -handicap * head_width**0.5 / marked
            attention.o_proj.weight[:, first : first + head_width] = share * value.T
