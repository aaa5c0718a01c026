"""Sizes of nano-clip.

The classes are those of CLIP in transformers; only the numbers are ours.  Pictures of 168x168
give 12x12 patches and a class token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPConfig, PreTrainedTokenizerBase

PATCH = 14
#: Side of the pictures in pixels.
SIDE = 168
#: Most tokens of a text.
POSITIONS = 64
#: Layers of the image encoder.
LAYERS = 6


def configuration(tokenizer: PreTrainedTokenizerBase) -> CLIPConfig:
    """Return the model configuration, with token ids from *tokenizer*."""
    from transformers import CLIPConfig

    shared: dict[str, Any] = {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "projection_dim": 128,
        "hidden_act": "quick_gelu",
    }
    return CLIPConfig(
        text_config={
            **shared,
            "num_hidden_layers": 4,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": POSITIONS,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            **shared,
            "num_hidden_layers": LAYERS,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        projection_dim=shared["projection_dim"],
    )
