"""A tiny random checkpoint in the layout of the official one."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from lossylens_vlm_internvl2_8b.configuration import read_config
from lossylens_vlm_internvl2_8b.weights import expected_shapes
from safetensors.torch import save_file

HERE = Path(__file__).parent
torch.set_num_threads(1)

CONFIG = {
    "model_type": "internvl_chat",
    "template": "internlm2-chat",
    "ps_version": "v2",
    "llm_config": {
        "model_type": "internlm2",
        "bias": False,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"},
        "rope_theta": 1000000,
        "vocab_size": 485,
    },
    "vision_config": {
        "norm_type": "layer_norm",
        "qk_normalization": False,
        "qkv_bias": True,
        "hidden_size": 32,
        "image_size": 56,
        "intermediate_size": 48,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "patch_size": 14,
    },
}

#: In the places of pieces that were left free, and behind them; one is no special token.
ADDED = {
    0: "<unk>",
    1: "<s>",
    2: "</s>",
    3: "<|im_end|>",
    4: "<|im_start|>",
    480: "<img>",
    481: "</img>",
    482: "<IMG_CONTEXT>",
    483: "<box>",
    484: "<plain>",
}


def write_tokens(folder: Path, pieces: str = "prefix", added=ADDED) -> None:
    shutil.copyfile(HERE / f"{pieces}.model", folder / "tokenizer.model")
    listed = {
        str(number): {"content": token, "special": token != "<plain>"}
        for number, token in added.items()
    }
    text = json.dumps({"added_tokens_decoder": listed})
    (folder / "tokenizer_config.json").write_text(text)


def write(folder: Path) -> dict[str, torch.Tensor]:
    """Write a checkpoint with two shards and their index; return the weights."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tokens(folder)
    generator = torch.Generator().manual_seed(11)
    weights = {}
    for name, shape in expected_shapes(read_config(folder, 482)).items():
        spread = 0.3 if len(shape) > 1 else 0.1
        weights[name] = torch.randn(shape, generator=generator) * spread
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1
    order = sorted(weights)
    index = {}
    for number, part in enumerate((order[::2], order[1::2]), 1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        index |= dict.fromkeys(part, shard)
        save_file({name: weights[name] for name in part}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return weights


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))
    logging.getLogger("transformers").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    return folder, write(folder)


@pytest.fixture(scope="session")
def folder(written) -> Path:
    return written[0]


@pytest.fixture
def fresh(written, tmp_path) -> Path:
    """A checkpoint that the test may damage."""
    shutil.copytree(written[0], tmp_path / "tiny")
    return tmp_path / "tiny"
