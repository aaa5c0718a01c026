"""The numbers of a checkpoint, read from its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossylens.errors import RequirementError
from lossylens_toolkit.transformers_vlm.checkpoint import read_json
from transformers import InternVLConfig

from lossylens_vlm_internvl2_8b.files import CONFIG

#: What must be so for the model to be the one that is run here, by part of the file.
_EXPECTED: Mapping[str, Mapping[str, Any]] = {
    "": {
        "template": "internlm2-chat",
        "select_layer": -1,
        "ps_version": "v2",
        "downsample_ratio": 0.5,
    },
    "llm_config": {"model_type": "internlm2", "hidden_act": "silu", "bias": False},
    "vision_config": {
        "norm_type": "layer_norm",
        "qk_normalization": False,
        "qkv_bias": True,
        "hidden_act": "gelu",
    },
}

#: Of these what is expected is what the official code takes where a file leaves them out.
_LEFT_OUT = {"select_layer", "downsample_ratio", "hidden_act"}


def read_config(folder: Path, image_token: int) -> InternVLConfig:
    """Read ``config.json`` of an official checkpoint.

    The language model, InternLM2, computes what LLaMA does.  Longer sequences than it was
    trained on, for which its rotary angles are scaled, are not run.

    Args:
        folder: of the checkpoint.
        image_token: id of ``<IMG_CONTEXT>``.

    Raises:
        RequirementError: it is of another model, or a number is missing or unfit.
    """
    path = folder / CONFIG
    values = read_json(path)
    for part, expected in _EXPECTED.items():
        held = values.get(part) if part else values
        if not isinstance(held, dict):
            raise RequirementError(f"{path} is not that of InternVL2-8B: it has no {part}")
        for name, value in expected.items():
            given = held.get(name, value if name in _LEFT_OUT else None)
            if given != value:
                where = f"{part}.{name}" if part else name
                raise RequirementError(
                    f"{path} is not that of InternVL2-8B: {where} is {given!r}, not {value!r}"
                )
    if "quantization_config" in values:
        raise RequirementError(f"{path}: quantised checkpoints are not read; take InternVL2-8B's")
    return _config(values["llm_config"], values["vision_config"], image_token, path)


def _config(
    language: dict[str, Any], vision: dict[str, Any], image_token: int, path: Path
) -> InternVLConfig:
    side, patch = (_whole(vision, name, path) for name in ("image_size", "patch_size"))
    if side % (2 * patch):
        raise RequirementError(f"{path}: {side} pixels are not an even number of patches")
    scaling = language.get("rope_scaling")
    # Scaling that is dynamic changes nothing until a sequence is longer than was trained on.
    if scaling is not None and not (isinstance(scaling, dict) and scaling.get("type") == "dynamic"):
        raise RequirementError(f"{path}: rope_scaling {scaling!r} is not computed here")
    heads = _whole(language, "num_attention_heads", path)
    shared = _whole(language, "num_key_value_heads", path)
    width = _whole(language, "hidden_size", path)
    seen_by = _whole(vision, "num_attention_heads", path)
    seen = _whole(vision, "hidden_size", path)
    if width % heads or heads % shared or seen % seen_by:
        raise RequirementError(f"{path}: the heads of its parts do not fit together")
    return InternVLConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": _whole(language, "vocab_size", path),
            "hidden_size": width,
            "intermediate_size": _whole(language, "intermediate_size", path),
            "num_hidden_layers": _whole(language, "num_hidden_layers", path),
            "num_attention_heads": heads,
            "num_key_value_heads": shared,
            "max_position_embeddings": _whole(language, "max_position_embeddings", path),
            "rms_norm_eps": _positive(language, "rms_norm_eps", 1e-6, path),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": _positive(language, "rope_theta", 10000, path),
            },
            "tie_word_embeddings": False,
        },
        vision_config={
            "hidden_size": seen,
            "intermediate_size": _whole(vision, "intermediate_size", path),
            "num_hidden_layers": _whole(vision, "num_hidden_layers", path),
            "num_attention_heads": seen_by,
            "image_size": [side, side],
            "patch_size": [patch, patch],
            "layer_norm_eps": _positive(vision, "layer_norm_eps", 1e-6, path),
            "attention_bias": True,
        },
        image_token_id=image_token,
        image_seq_length=(side // patch) ** 2 // 4,
        tie_word_embeddings=False,
    )


def _whole(values: dict[str, Any], name: str, path: Path) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**7:
        raise RequirementError(f"{path}: {name} must be a positive whole number")
    return value


def _positive(values: dict[str, Any], name: str, default: float, path: Path) -> float:
    value = values.get(name, default)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise RequirementError(f"{path}: {name} must be a number above 0")
    return float(value)
