"""What is said about checkpoints that are missing, partial, damaged or of another kind."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct

import pytest
import torch
from lossylens.errors import RequirementError
from lossylens_toolkit.transformers_vlm import checkpoint
from lossylens_toolkit.transformers_vlm.vlm_options import VlmOptions, needs_checkpoint
from safetensors.torch import load_file, save_file


@pytest.fixture
def folder(folders, tmp_path):
    """A copy that may be damaged."""
    copied = tmp_path / "checkpoint"
    shutil.copytree(folders["qwen2_5_vl"], copied)
    return copied


@pytest.fixture
def sharded(folder):
    """The same weights in two files with an index."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    halves = {f"model-0000{n}-of-00002.safetensors": names[n - 1 :: 2] for n in (1, 2)}
    index = {}
    for file, part in halves.items():
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "model.safetensors").unlink()
    return folder


def missing(name, gigabytes=7.5):
    return needs_checkpoint(gigabytes)(VlmOptions(checkpoint=str(name)))


def test_a_whole_one_is_not_missing(folder) -> None:
    assert missing(folder) == ()


def test_sharded_is_the_same(sharded, folders) -> None:
    assert missing(sharded) == ()
    whole = checkpoint.weight_files(folders["qwen2_5_vl"])
    assert checkpoint.parameters(checkpoint.weight_files(sharded)) == checkpoint.parameters(whole)


def test_missing_shard_is_named(sharded) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    [found] = missing(sharded)
    assert "incomplete: model-00002-of-00002.safetensors is missing" in found.what


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_missing_file_is_named(folder, name) -> None:
    (folder / name).unlink()
    [found] = missing(folder)
    assert f"holds no {name}" in found.what


def test_cut_off_file_is_named(folder) -> None:
    path = folder / "model.safetensors"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 100)
    [found] = missing(folder)
    assert f"model.safetensors is damaged: it has {size - 100} bytes" in found.what


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 10) + b'{"a": 1}  ',
        struct.pack("<Q", 33) + b'{"a":{"data_offsets":[0,-9e999]}}',
        b"<html>Not found</html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"PK\x03\x04",
        b"\x80\x02.",
        b'{"error": "not found"}',
    ],
)
def test_what_is_no_safetensors_file_is_refused(folder, content) -> None:
    (folder / "model.safetensors").write_bytes(content)
    [found] = missing(folder)
    assert str(folder / "model.safetensors") in found.what


def test_a_page_is_called_one(folder) -> None:
    (folder / "model.safetensors").write_bytes(b"\n<html>Not found</html>")
    [found] = missing(folder)
    assert "model.safetensors: a web page, not the file itself; the download has fa" in found.what


def test_a_file_of_torch_is_no_safetensors(folder) -> None:
    torch.save({}, folder / "model.safetensors")
    [found] = missing(folder)
    assert "model.safetensors: no safetensors file, but one of kind zip" in found.what


def test_a_folder_in_the_place_of_weights(folder) -> None:
    path = folder / "model.safetensors"
    path.unlink()
    path.mkdir()
    [found] = missing(folder)
    assert f"{folder} holds no model.safetensors" in found.what


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"model": {'])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_other_files_that_are_none(open_vlm, folder, name, content) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(RequirementError, match=str(folder)):
        _ = open_vlm("qwen2_5_vl", checkpoint=str(folder)).family


def test_damaged_entries_are_one_line(open_vlm, folder) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"F64"', 1))
    with pytest.raises(RequirementError, match="are damaged"):
        _ = open_vlm("qwen2_5_vl", checkpoint=str(folder)).family


@pytest.mark.parametrize("shard", ["../evil.safetensors", "/etc/passwd", 7, ""])
def test_an_index_names_files_of_its_folder_only(sharded, shard) -> None:
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    [found] = missing(sharded)
    assert "names no weight files" in found.what


def test_pickles_are_not_loaded(folder) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    [found] = missing(folder)
    assert "its .bin files are pickles, which are never loaded" in found.what


def test_hub_ids_are_looked_up_offline(tmp_path, monkeypatch, folder) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    [found] = missing("maker/model")
    assert "maker/model is not in the local hub cache" in found.what
    assert found.remedy.startswith("hf download maker/model (7.5 GB), or set")
    # As the hub's client lays it out: blobs by hash, a snapshot of links.
    base = tmp_path / "models--maker--model"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("abc")
    (base / "blobs").mkdir()
    snapshot = base / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    hashes = {}
    for path in folder.iterdir():
        hashes[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, base / "blobs" / hashes[path.name])
        (snapshot / path.name).symlink_to(base / "blobs" / hashes[path.name])
    assert missing("maker/model") == ()
    files = checkpoint.weight_files(checkpoint.find("maker/model"))
    assert checkpoint.fingerprint(files) == {"model.safetensors": hashes["model.safetensors"]}


def test_hashes_of_folders_follow_the_content(folder) -> None:
    files = checkpoint.weight_files(folder)
    expected = hashlib.sha256(files[0].read_bytes()).hexdigest()
    for _ in range(2):
        assert checkpoint.fingerprint(files) == {"model.safetensors": expected}
    weights = load_file(files[0])
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, files[0], {"format": "pt"})
    assert checkpoint.fingerprint(files)["model.safetensors"] != expected


def test_neither_folder_nor_hub_id(tmp_path) -> None:
    [found] = missing(tmp_path / "nowhere" / "at" / "all")
    assert "there is no folder" in found.what
    assert "option checkpoint" in found.remedy


def test_another_architecture_is_refused(open_vlm, folders) -> None:
    with pytest.raises(RequirementError, match=r"type 'janus', not 'internvl'; .*-hf"):
        open_vlm("internvl", checkpoint=str(folders["janus"]))


def test_lacking_weights_are_named(open_vlm, folder) -> None:
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "mlp.down_proj" in name)
    del weights[gone]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    vlm = open_vlm("qwen2_5_vl", checkpoint=str(folder))
    with pytest.raises(RequirementError, match=f"lack .*{gone.rpartition('layers')[2]}"):
        _ = vlm.family
