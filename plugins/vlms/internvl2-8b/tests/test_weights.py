"""Reading checkpoints: key for key, and nothing else."""

from __future__ import annotations

import json
from math import prod

import pytest
import torch
from lossylens.errors import RequirementError
from lossylens.registry.plugins import load_registry
from lossylens_vlm_internvl2_8b.configuration import read_config
from lossylens_vlm_internvl2_8b.plugin import Options
from lossylens_vlm_internvl2_8b.vlm import InternVL2Vlm
from lossylens_vlm_internvl2_8b.weights import expected_shapes, ungrouped
from safetensors.torch import load_file, save_file

#: ``config.json`` of the published checkpoint, as far as it is read.
LANGUAGE = {
    "model_type": "internlm2",
    "hidden_act": "silu",
    "bias": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 2.0, "type": "dynamic"},
    "rope_theta": 1000000,
    "vocab_size": 92553,
}
VISION = {
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "image_size": 448,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-06,
    "norm_type": "layer_norm",
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "qk_normalization": False,
    "qkv_bias": True,
}
OFFICIAL = {
    "model_type": "internvl_chat",
    "template": "internlm2-chat",
    "select_layer": -1,
    "ps_version": "v2",
    "downsample_ratio": 0.5,
    "llm_config": LANGUAGE,
    "vision_config": VISION,
}

#: Tensors of the published checkpoint; ``*`` stands for the number of a layer.
LAYER, BLOCK = "language_model.model.layers.*", "vision_model.encoder.layers.*"
KEYS = {
    "language_model.model.tok_embeddings.weight": (92553, 4096),
    "language_model.model.norm.weight": (4096,),
    "language_model.output.weight": (92553, 4096),
    f"{LAYER}.attention.wqkv.weight": (6144, 4096),
    f"{LAYER}.attention.wo.weight": (4096, 4096),
    f"{LAYER}.attention_norm.weight": (4096,),
    f"{LAYER}.ffn_norm.weight": (4096,),
    f"{LAYER}.feed_forward.w1.weight": (14336, 4096),
    f"{LAYER}.feed_forward.w2.weight": (4096, 14336),
    f"{LAYER}.feed_forward.w3.weight": (14336, 4096),
    "vision_model.embeddings.class_embedding": (1, 1, 1024),
    "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14),
    "vision_model.embeddings.patch_embedding.bias": (1024,),
    "vision_model.embeddings.position_embedding": (1, 1025, 1024),
    f"{BLOCK}.attn.qkv.weight": (3072, 1024),
    f"{BLOCK}.attn.qkv.bias": (3072,),
    f"{BLOCK}.attn.proj.weight": (1024, 1024),
    f"{BLOCK}.attn.proj.bias": (1024,),
    f"{BLOCK}.ls1": (1024,),
    f"{BLOCK}.ls2": (1024,),
    f"{BLOCK}.mlp.fc1.weight": (4096, 1024),
    f"{BLOCK}.mlp.fc1.bias": (4096,),
    f"{BLOCK}.mlp.fc2.weight": (1024, 4096),
    f"{BLOCK}.mlp.fc2.bias": (1024,),
    f"{BLOCK}.norm1.weight": (1024,),
    f"{BLOCK}.norm1.bias": (1024,),
    f"{BLOCK}.norm2.weight": (1024,),
    f"{BLOCK}.norm2.bias": (1024,),
    "mlp1.0.weight": (4096,),
    "mlp1.0.bias": (4096,),
    "mlp1.1.weight": (4096, 4096),
    "mlp1.1.bias": (4096,),
    "mlp1.3.weight": (4096, 4096),
    "mlp1.3.bias": (4096,),
}


def test_the_official_keys_and_shapes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(OFFICIAL))
    expected = {}
    for key, shape in KEYS.items():
        layers = 24 if key.startswith(BLOCK) else 32
        for number in range(layers) if "*" in key else [""]:
            expected[key.replace("*", str(number))] = shape
    config = read_config(tmp_path, 92546)
    shapes = expected_shapes(config)
    assert shapes == expected
    assert sum(map(prod, shapes.values())) == pytest.approx(8.0754e9, rel=1e-5)
    assert config.text_config.max_position_embeddings == 32768
    assert config.text_config.rope_parameters == {"rope_type": "default", "rope_theta": 1e6}


def test_the_joint_projection_is_grouped():
    """Rows are named by what they are: head of keys and values, place in its group."""
    rows = [f"{head}{part}" for head in "ab" for part in ("q0", "q1", "q2", "k", "v")]
    weight = torch.arange(10).repeat_interleave(4)[:, None]
    found = [[rows[number] for number in part[::4, 0].tolist()] for part in ungrouped(weight, 2, 3)]
    assert found == [["aq0", "aq1", "aq2", "bq0", "bq1", "bq2"], ["ak", "bk"], ["av", "bv"]]


def load(folder):
    return InternVL2Vlm(Options(checkpoint=str(folder), device="cpu")).family


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop(min(w)), r"lack language_model\.\S+$"),
        (lambda w: w.update({min(w): torch.ones(3)}), r"is \(3,\), not \("),
        (lambda w: w.update(extra=torch.ones(3)), "holds extra, which InternVL2-8B has not"),
    ],
)
def test_each_tensor_must_be_there_fit_and_be_known(fresh, change, reason):
    shard = fresh / "model-00001-of-00002.safetensors"
    weights = load_file(shard)
    change(weights)
    save_file(weights, shard)
    with pytest.raises(RequirementError, match=reason):
        load(fresh)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "tokenizer_config.json"])
def test_a_missing_file_is_named(fresh, name):
    (fresh / name).unlink()
    registry = load_registry()
    found = registry.find("vlm", "internvl2-8b")
    [lack] = registry.missing(found, registry.options(found, {"checkpoint": str(fresh)}))
    assert f"holds no {name}" in lack.what


def test_without_a_checkpoint_it_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    registry = load_registry()
    found = registry.find("vlm", "internvl2-8b")
    [lack] = registry.missing(found, registry.options(found))
    assert "OpenGVLab/InternVL2-8B is not in the local hub cache" in lack.what
    assert "hf download OpenGVLab/InternVL2-8B (16.2 GB)" in lack.remedy


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("", {"model_type": "internvl"}, "of type 'internvl', not 'internvl_chat'"),
        ("", {"template": "internvl2_5"}, "template is 'internvl2_5', not 'internlm2-chat'"),
        ("", {"select_layer": -4}, "select_layer is -4, not -1"),
        ("", {"llm_config": None}, "it has no llm_config"),
        ("", {"quantization_config": {"bits": 4}}, "quantised checkpoints are not read"),
        ("llm_config", {"model_type": "qwen2"}, r"llm_config\.model_type is 'qwen2'"),
        ("llm_config", {"num_key_value_heads": 3}, "heads of its parts do not fit"),
        ("llm_config", {"vocab_size": "9"}, "vocab_size must be a positive whole number"),
        ("llm_config", {"rms_norm_eps": None}, "rms_norm_eps must be a number above 0"),
        ("llm_config", {"rope_theta": "x"}, "rope_theta must be a number above 0"),
        ("llm_config", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ("vision_config", {"num_attention_heads": 3}, "heads of its parts do not fit"),
        ("vision_config", {"qk_normalization": True}, r"vision_config\.qk_normalization is True"),
        ("vision_config", {"image_size": 70}, "70 pixels are not an even number of patches"),
    ],
)
def test_configurations_of_other_models(fresh, part, change, reason):
    path = fresh / "config.json"
    values = json.loads(path.read_text())
    (values[part] if part else values).update(change)
    path.write_text(json.dumps(values))
    with pytest.raises(RequirementError, match=reason):
        load(fresh)
