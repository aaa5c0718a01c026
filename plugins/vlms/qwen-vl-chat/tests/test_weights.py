"""Reading checkpoints: key for key, and nothing but tensors."""

from __future__ import annotations

import json
import os
import pickle
import re
from math import prod

import pytest
import torch
from lossylens.errors import RequirementError
from lossylens.registry.plugins import load_registry
from lossylens_vlm_qwen_vl_chat.configuration import read_config
from lossylens_vlm_qwen_vl_chat.files import checkpoint_files
from lossylens_vlm_qwen_vl_chat.plugin import QwenVLChatOptions, missing
from lossylens_vlm_qwen_vl_chat.vlm import QwenVLChatVlm
from lossylens_vlm_qwen_vl_chat.weights import expected_shapes, read_weights
from safetensors.torch import save_file

#: ``config.json`` of the published checkpoint, as far as it is read.
OFFICIAL = {
    "model_type": "qwen",
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "kv_channels": 128,
    "layer_norm_epsilon": 1e-06,
    "max_position_embeddings": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "seq_length": 2048,
    "tie_word_embeddings": False,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "vocab_size": 151936,
    "visual": {
        "heads": 16,
        "image_size": 448,
        "image_start_id": 151857,
        "layers": 48,
        "mlp_ratio": 4.9231,
        "output_dim": 4096,
        "patch_size": 14,
        "width": 1664,
    },
}

#: Tensors of the published checkpoint; ``*`` stands for the number of a layer.
LAYER = "transformer.h.*"
BLOCK = "transformer.visual.transformer.resblocks.*"
KEYS = {
    "transformer.wte.weight": (151936, 4096),
    "transformer.ln_f.weight": (4096,),
    "lm_head.weight": (151936, 4096),
    f"{LAYER}.ln_1.weight": (4096,),
    f"{LAYER}.ln_2.weight": (4096,),
    f"{LAYER}.attn.c_attn.weight": (12288, 4096),
    f"{LAYER}.attn.c_attn.bias": (12288,),
    f"{LAYER}.attn.c_proj.weight": (4096, 4096),
    f"{LAYER}.mlp.w1.weight": (11008, 4096),
    f"{LAYER}.mlp.w2.weight": (11008, 4096),
    f"{LAYER}.mlp.c_proj.weight": (4096, 11008),
    f"{BLOCK}.ln_1.weight": (1664,),
    f"{BLOCK}.ln_1.bias": (1664,),
    f"{BLOCK}.ln_2.weight": (1664,),
    f"{BLOCK}.ln_2.bias": (1664,),
    f"{BLOCK}.attn.in_proj.weight": (4992, 1664),
    f"{BLOCK}.attn.in_proj.bias": (4992,),
    f"{BLOCK}.attn.out_proj.weight": (1664, 1664),
    f"{BLOCK}.attn.out_proj.bias": (1664,),
    f"{BLOCK}.mlp.c_fc.weight": (8192, 1664),
    f"{BLOCK}.mlp.c_fc.bias": (8192,),
    f"{BLOCK}.mlp.c_proj.weight": (1664, 8192),
    f"{BLOCK}.mlp.c_proj.bias": (1664,),
    "transformer.visual.conv1.weight": (1664, 3, 14, 14),
    "transformer.visual.positional_embedding": (256, 1664),
    "transformer.visual.ln_pre.weight": (1664,),
    "transformer.visual.ln_pre.bias": (1664,),
    "transformer.visual.attn_pool.query": (256, 4096),
    "transformer.visual.attn_pool.pos_embed": (256, 4096),
    "transformer.visual.attn_pool.kv_proj.weight": (4096, 1664),
    "transformer.visual.attn_pool.attn.in_proj_weight": (12288, 4096),
    "transformer.visual.attn_pool.attn.in_proj_bias": (12288,),
    "transformer.visual.attn_pool.attn.out_proj.weight": (4096, 4096),
    "transformer.visual.attn_pool.attn.out_proj.bias": (4096,),
    "transformer.visual.attn_pool.ln_q.weight": (4096,),
    "transformer.visual.attn_pool.ln_q.bias": (4096,),
    "transformer.visual.attn_pool.ln_kv.weight": (4096,),
    "transformer.visual.attn_pool.ln_kv.bias": (4096,),
    "transformer.visual.ln_post.weight": (4096,),
    "transformer.visual.ln_post.bias": (4096,),
    "transformer.visual.proj": (4096, 4096),
}
COUNTS = {LAYER: 32, BLOCK: 48}


def test_the_official_keys_and_shapes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(OFFICIAL))
    expected = {}
    for key, shape in KEYS.items():
        head, _, tail = key.rpartition(".*")
        numbers = range(COUNTS[f"{head}.*"]) if head else [""]
        for number in numbers:
            expected[f"{head}.{number}{tail}" if head else key] = shape
    config = read_config(tmp_path)
    shapes = expected_shapes(config)
    assert shapes == expected
    language = {name for name in shapes if "visual" not in name}
    assert (len(language), len(shapes) - len(language)) == (32 * 8 + 3, 594)
    assert sum(map(prod, shapes.values())) == pytest.approx(9.657e9, rel=1e-3)
    assert config.context == 2048


def test_tensors_are_read_from_shards_whatever_their_format(written, tmp_path):
    folder, weights = written
    config = read_config(folder)
    for name in ("config.json", "qwen.tiktoken"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    save_file(weights, tmp_path / "model.safetensors")
    for each in (folder, tmp_path):
        found = read_weights(checkpoint_files(each), config)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], weights[name]) for name in weights)


def shard(folder):
    return folder / "pytorch_model-00001-of-00002.bin"


def rewrite(folder, change):
    weights = torch.load(shard(folder), weights_only=True)
    change(weights)
    torch.save(weights, shard(folder))


def load(folder):
    return QwenVLChatVlm(QwenVLChatOptions(checkpoint=str(folder))).family


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop(min(w)), r"lack lm_head\.weight$"),
        (lambda w: [w.pop(name) for name in sorted(w)[:3]], r"lack lm_head.weight and 2 more"),
        (lambda w: w.update({"lm_head.weight": torch.ones(3)}), r"is \(3,\), not \(512, 64\)"),
        (lambda w: w.update(extra=torch.ones(3)), "holds extra, which Qwen-VL-Chat has not"),
        (lambda w: w.update({sorted(w)[0].replace("head", "head."): 3}), "mapping from names"),
    ],
)
def test_each_tensor_must_be_there_fit_and_be_known(fresh, change, reason):
    rewrite(fresh, change)
    with pytest.raises(RequirementError, match=reason):
        load(fresh)


def test_leftovers_of_old_files_are_passed_over(fresh):
    rewrite(fresh, lambda w: w.update({"transformer.rotary_emb.inv_freq": torch.ones(8)}))
    load(fresh)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_pickle_that_runs_code_is_refused(fresh, tmp_path):
    trace = tmp_path / "trace"
    rewrite(fresh, lambda w: w.update(evil=Evil(trace)))
    with pytest.raises(RequirementError, match="holds objects other than tensors, which are not"):
        load(fresh)
    assert not trace.exists()
    # It is not harmless: whoever unpickles everything runs it.
    torch.load(shard(fresh), weights_only=False)
    assert trace.is_dir()


def test_files_that_are_no_shards(fresh):
    whole = shard(fresh).read_bytes()
    for instead, reason in (
        (b"", "empty; the download has failed"),
        (whole[: len(whole) // 2], "is damaged or cut off"),
        (pickle.dumps({"a": 1}), "no zip file, but one of kind pickle"),
        (b"<html>", "a web page, not the file itself; the download has failed"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"no weights", "not a checkpoint of torch or safetensors"),
    ):
        shard(fresh).write_bytes(instead)
        with pytest.raises(RequirementError, match=reason):
            load(fresh)
    shard(fresh).unlink()
    shard(fresh).mkdir()
    with pytest.raises(RequirementError, match="a folder, not a file"):
        load(fresh)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("config.json", "holds no config.json"),
        ("qwen.tiktoken", "holds no qwen.tiktoken"),
        ("pytorch_model-00002-of-00002.bin", "pytorch_model-00002-of-00002.bin is missing"),
        ("pytorch_model.bin.index.json", "holds no model.safetensors"),
    ],
)
def test_a_missing_file_is_named(fresh, name, reason):
    (fresh / name).unlink()
    with pytest.raises(RequirementError, match=reason):
        checkpoint_files(fresh)
    (found,) = missing(QwenVLChatOptions(checkpoint=str(fresh)))
    assert re.search(reason, found.what)
    assert "hf download Qwen/Qwen-VL-Chat (19.3 GB)" in found.remedy


@pytest.mark.parametrize(
    "index", ["[]", "{", '{"weight_map": {}}', '{"weight_map": {"a": "../b.bin"}}', "[" * 100_000]
)
def test_a_broken_index(fresh, index):
    (fresh / "pytorch_model.bin.index.json").write_text(index)
    with pytest.raises(RequirementError, match=r"index\.json (names no|cannot be read|holds no)"):
        checkpoint_files(fresh)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "llama"}, "of type 'llama', not 'qwen'"),
        ({"visual": None}, "no visual part"),
        ({"hidden_size": "64"}, "hidden_size must be a positive whole number"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be"),
        ({"kv_channels": 8}, "heads of this form"),
        ({"quantization_config": {"bits": 4}}, "quantised checkpoints are not read"),
    ],
)
def test_configurations_of_other_models(fresh, change, reason):
    path = fresh / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RequirementError, match=reason):
        load(fresh)


def test_it_is_registered_and_says_what_it_lacks():
    registry = load_registry()
    found = registry.find("vlm", "Qwen_VL_Chat")
    (lack,) = registry.missing(found, registry.options(found))
    assert "Qwen/Qwen-VL-Chat" in lack.what
