"""A tiny random checkpoint in the layout of the official one."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import torch
from lossylens_vlm_qwen_vl_chat.configuration import read_config
from lossylens_vlm_qwen_vl_chat.weights import expected_shapes

CONFIG = {
    "model_type": "qwen",
    "hidden_size": 64,
    "intermediate_size": 192,
    "kv_channels": 16,
    "layer_norm_epsilon": 1e-6,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "seq_length": 256,
    "vocab_size": 512,
    "visual": {
        "heads": 2,
        "image_size": 112,
        "layers": 3,
        "mlp_ratio": 4.9231,
        "output_dim": 64,
        "patch_size": 14,
        "width": 32,
        "queries": 16,
        "positions": 16,
        "pool_head_width": 32,
    },
}

#: Tokens of several bytes, by rank; each is made of two before it.
MERGED = ("th", "the", "in", " a", " the", "er", "an", "ing", "\n\n", "é")


def token_file(merged=MERGED) -> bytes:
    tokens = [bytes([byte]) for byte in reversed(range(256))]
    tokens += [text.encode() for text in merged]
    lines = (b"%s %d" % (base64.b64encode(t), rank) for rank, t in enumerate(tokens))
    return b"\n".join(lines) + b"\n"


def random_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights under official names, large enough for answers to differ."""
    generator = torch.Generator().manual_seed(11)
    weights = {}
    for name, shape in expected_shapes(read_config(folder)).items():
        spread = 0.3 if len(shape) > 1 else 0.1
        weights[name] = torch.randn(shape, generator=generator) * spread
        if ".ln_" in name and name.endswith("weight"):
            weights[name] += 1
    return weights


def write(folder: Path) -> dict[str, torch.Tensor]:
    """Write a checkpoint with two .bin shards and their index; return the weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "qwen.tiktoken").write_bytes(token_file())
    weights = random_weights(folder)
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"pytorch_model-{number:05d}-of-00002.bin"
        index |= dict.fromkeys(part, shard)
        torch.save({name: weights[name] for name in part}, folder / shard)
    text = json.dumps({"weight_map": index})
    (folder / "pytorch_model.bin.index.json").write_text(text)
    return weights


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    return folder, write(folder)


@pytest.fixture(scope="session")
def folder(written) -> Path:
    return written[0]


@pytest.fixture
def fresh(tmp_path) -> Path:
    """A checkpoint that the test may damage."""
    write(tmp_path / "tiny")
    return tmp_path / "tiny"
