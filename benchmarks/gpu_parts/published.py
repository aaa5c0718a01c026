"""Sizes of the published configurations, and tiny ones of the same kind."""

from __future__ import annotations

from typing import Any

from lossylens_toolkit.transformers_vlm.families.internvl import InternVLVlm
from lossylens_toolkit.transformers_vlm.families.janus import JanusVlm
from lossylens_toolkit.transformers_vlm.families.llava import LlavaVlm
from lossylens_toolkit.transformers_vlm.families.llava_onevision import LlavaOnevisionVlm
from lossylens_toolkit.transformers_vlm.families.qwen2_5_vl import Qwen25Vlm
from lossylens_toolkit.transformers_vlm.vlm_options import (
    InternVLOptions,
    JanusOptions,
    LlavaOnevisionOptions,
    LlavaOptions,
    Qwen25Options,
)

from gpu_parts.models import Architecture, Sizes, intern, janus, llava, llava_onevision, qwen

#: Of a decoder that a CPU runs in no time.
_TINY: Sizes = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "vocab_size": 1024,
}
_TINY_VISION: Sizes = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
_QWEN_VISION: Sizes = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
    "patch_size": 14,
}
_TINY_QWEN_VISION: Sizes = {
    **_QWEN_VISION,
    "depth": 4,
    "hidden_size": 64,
    "num_heads": 2,
    "intermediate_size": 128,
    "fullatt_block_indexes": [1, 3],
}
#: Of InternViT-300M and SigLIP-L alike.
_VISION: Sizes = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
#: Its last layer is not in LLaVA-OneVision's checkpoints.
_SIGLIP_SO400M: Sizes = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
}
_TINY_VQ: Sizes = {
    "embed_dim": 8,
    "num_embeddings": 32,
    "latent_channels": 32,
    "base_channels": 32,
    "channel_multiplier": [1, 1],
    "num_res_blocks": 1,
    "num_patches": 4,
}
_LONG = {"max_position_embeddings": 128000}


def _text(width: int, mlp: int, layers: int, heads: int, shared: int, **more: Any) -> Sizes:
    return {
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        **more,
    }


def architectures(*, tiny: bool) -> list[Architecture]:
    """Return the models that are measured."""
    if tiny:
        small = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
        text = {**_TINY, "tie_word_embeddings": True}
        return [
            Architecture(
                "qwen2.5-vl tiny",
                Qwen25Vlm,
                Qwen25Options,
                qwen(text, _TINY_QWEN_VISION, [2, 3, 3]),
                small,
            ),
            Architecture(
                "internvl3 tiny",
                InternVLVlm,
                InternVLOptions,
                intern(_TINY, _TINY_VISION, 56),
                {"max_tiles": 2},
            ),
            Architecture(
                "janus-pro tiny",
                JanusVlm,
                JanusOptions,
                janus(_TINY, _TINY_VISION, 64, _TINY_VQ),
                {},
            ),
            Architecture(
                "llava-1.5 tiny", LlavaVlm, LlavaOptions, llava(_TINY, _TINY_VISION, 56), {}
            ),
            Architecture(
                "llava-onevision tiny",
                LlavaOnevisionVlm,
                LlavaOnevisionOptions,
                llava_onevision(_TINY, _TINY_VISION, 56, 2),
                {},
            ),
        ]
    return [
        Architecture(
            "qwen2.5-vl-3b",
            Qwen25Vlm,
            Qwen25Options,
            qwen(
                _text(2048, 11008, 36, 16, 2, vocab_size=151936, tie_word_embeddings=True, **_LONG),
                _QWEN_VISION,
                [16, 24, 24],
            ),
            {},
        ),
        Architecture(
            "qwen2.5-vl-7b",
            Qwen25Vlm,
            Qwen25Options,
            qwen(
                _text(
                    3584, 18944, 28, 28, 4, vocab_size=152064, tie_word_embeddings=False, **_LONG
                ),
                _QWEN_VISION,
                [16, 24, 24],
            ),
            {},
        ),
        Architecture(
            "internvl3-8b",
            InternVLVlm,
            InternVLOptions,
            intern(
                _text(3584, 18944, 28, 28, 4, vocab_size=151674, max_position_embeddings=32768),
                _VISION,
                448,
            ),
            {},
        ),
        Architecture(
            "janus-pro-7b",
            JanusVlm,
            JanusOptions,
            janus(
                _text(4096, 11008, 30, 32, 32, vocab_size=102400, max_position_embeddings=16384),
                _VISION,
                384,
                {},
            ),
            {},
        ),
        Architecture(
            "llava-1.5-7b",
            LlavaVlm,
            LlavaOptions,
            llava(
                _text(4096, 11008, 32, 32, 32, vocab_size=32064, max_position_embeddings=4096),
                _VISION,
                336,
            ),
            {},
        ),
        Architecture(
            "llava-onevision-7b",
            LlavaOnevisionVlm,
            LlavaOnevisionOptions,
            llava_onevision(
                _text(3584, 18944, 28, 28, 4, vocab_size=152128, max_position_embeddings=32768),
                _SIGLIP_SO400M,
                384,
                6,
            ),
            {},
        ),
    ]
