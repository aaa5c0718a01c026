"""A tiny random checkpoint of CLIP, in the layout of the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import processors
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lossylens_toolkit.transformers_vlm.vlm_testing import byte_tokenizer, randomise

_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def save_clip(
    folder: Path,
    text: Mapping[str, Any] | None = None,
    vision: Mapping[str, Any] | None = None,
    *,
    std: float = 0.2,
) -> None:
    """Write a CLIP checkpoint to *folder*; *text* and *vision* change its sizes."""
    tokenizer = byte_tokenizer([_BEGIN, _END], bos=_BEGIN, eos=_END, pad=_END)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A {_END}",
        special_tokens=[
            (_BEGIN, tokenizer.bos_token_id),
            (_END, tokenizer.eos_token_id),
        ],
    )
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "projection_dim": 16,
    }
    encoder = {**sizes, "image_size": 56, "patch_size": 14, **(vision or {})}
    side = encoder["image_size"]
    config = CLIPConfig(
        text_config={
            **sizes,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 64,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **(text or {}),
        },
        vision_config=encoder,
        projection_dim=16,
    )
    randomise(CLIPModel(config), std).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    ).save_pretrained(folder)
