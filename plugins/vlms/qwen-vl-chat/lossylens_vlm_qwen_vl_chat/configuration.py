"""The numbers of a checkpoint, read from its ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossylens.errors import RequirementError
from transformers import Qwen2Config

from lossylens_vlm_qwen_vl_chat.files import CONFIG, read_json


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the vision encoder.

    Attributes:
        image_size: side of the square that every image is scaled to, in pixels.
        patch_size: side of a patch, in pixels.
        width: of the hidden states.
        layers: number of transformer layers.
        heads: of their attention.
        mlp_ratio: width of their MLPs over *width*.
        output_dim: width of the language model.
        queries: visual tokens per image; a square.
        positions: learned positions, interpolated to the patches; a square.
        pool_head_width: width of the resampler's attention heads.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float
    output_dim: int
    queries: int = 256
    positions: int = 256
    pool_head_width: int = 128

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class QwenVLConfig:
    """Sizes of the whole model.

    Attributes:
        vision: of the vision encoder.
        text: of the language model, which is that of Qwen2 up to *context* tokens.
        context: tokens up to which the model runs without the two changes that longer
            sequences switch on in it, interpolated rotary angles and scaled queries.
    """

    vision: VisionConfig
    text: Qwen2Config
    context: int


def read_config(folder: Path) -> QwenVLConfig:
    """Read ``config.json`` of an official checkpoint.

    Raises:
        RequirementError: it is of another model, or a number is missing or unfit.
    """
    path = folder / CONFIG
    values = read_json(path)
    vision = values.get("visual")
    if values.get("model_type") != "qwen" or not isinstance(vision, dict):
        raise RequirementError(f"{path} is not that of Qwen-VL: no visual part of model type qwen")
    if "quantization_config" in values:
        raise RequirementError(f"{path}: quantised checkpoints are not read; take Qwen-VL-Chat's")
    context = _whole(values, "seq_length", path)
    heads, width = _whole(values, "num_attention_heads", path), _whole(values, "hidden_size", path)
    text = Qwen2Config(
        vocab_size=_whole(values, "vocab_size", path),
        hidden_size=width,
        # The file counts both halves of the gated MLP.
        intermediate_size=_whole(values, "intermediate_size", path) // 2,
        num_hidden_layers=_whole(values, "num_hidden_layers", path),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        hidden_act="silu",
        max_position_embeddings=context,
        rms_norm_eps=float(values.get("layer_norm_epsilon", 1e-6)),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(values.get("rotary_emb_base", 10000)),
        },
        tie_word_embeddings=False,
        use_sliding_window=False,
    )
    if heads * _whole(values, "kv_channels", path) != width or values.get("rotary_pct", 1.0) != 1.0:
        raise RequirementError(f"{path}: heads of this form are not those of Qwen-VL-Chat")
    return QwenVLConfig(_vision(vision, width, path), text, context)


def _vision(values: dict[str, Any], width: int, path: Path) -> VisionConfig:
    names = ("image_size", "patch_size", "width", "layers", "heads", "output_dim")
    optional = ("queries", "positions", "pool_head_width")
    found = {name: _whole(values, name, path) for name in names}
    found |= {name: _whole(values, name, path) for name in optional if name in values}
    config = VisionConfig(mlp_ratio=float(values.get("mlp_ratio", 4.9231)), **found)
    if config.output_dim != width or config.width % config.heads:
        raise RequirementError(f"{path}: the widths of its parts do not fit together")
    return config


def _whole(values: dict[str, Any], name: str, path: Path) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**7:
        raise RequirementError(f"{path}: {name} must be a positive whole number")
    return value
