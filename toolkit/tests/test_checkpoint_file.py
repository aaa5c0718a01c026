"""What is found in the place of a checkpoint, and what is said of it."""

import collections
import json
import pathlib
import pickle
import random
import struct

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
from lossylens_toolkit.checkpoint_file import CheckpointFileError, kind, load
from safetensors.torch import save_file

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}

PAGE = b"<!DOCTYPE html><html><body>Quota exceeded</body></html>"
FAILED = "a web page, not the file itself; the download has failed, get the file again"
NONE = "not a checkpoint of torch or safetensors"
INSTEAD = {
    "empty": (b"", "empty; the download has failed, get the file again"),
    "page": (PAGE, FAILED),
    "page-after-blanks": (b"\r\n \t" + PAGE, FAILED),
    "page-after-mark": (b"\xef\xbb\xbf\n" + PAGE, FAILED),
    "page-utf16": (b"\xff\xfe" + PAGE.decode().encode("utf-16-le"), FAILED),
    "page-utf16-be": (b"\xfe\xff" + PAGE.decode().encode("utf-16-be"), FAILED),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', FAILED),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a pointer of Git LFS, not the file itself; get that with git lfs pull",
    ),
    "text": (b"e" * 30 + b"\n", NONE),
    "short": (b"\n", NONE),
    "blanks": (b" \n" * 4000, NONE),
    "json": (b'{"error": "not found"}', NONE),
    "numbers": (bytes(range(256)), NONE),
    "zeros": (bytes(99), NONE),
    "old-pickle": (pickle.dumps({"a": 1}, 0), NONE),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), NONE),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), NONE),
}


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth.tar"])
@pytest.mark.parametrize("case", INSTEAD)
def test_what_came_instead_is_said(tmp_path, case, name):
    content, expected = INSTEAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    for read in (kind, load):
        with pytest.raises(CheckpointFileError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {expected}"


def test_no_file(tmp_path):
    with pytest.raises(CheckpointFileError, match="a folder, not a file"):
        load(tmp_path)
    with pytest.raises(CheckpointFileError, match=r"a\.pt: cannot be read: No such file"):
        load(tmp_path / "a.pt")


def saved(path, how):
    if how == "safetensors":
        save_file(STATE, path, {"about": "x"})
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=how == "zip")
    return path.read_bytes()


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("how", ["safetensors", "zip", "pickle"])
def test_content_and_not_the_name_decides(tmp_path, how, mmap):
    path = tmp_path / ("a.pt" if how == "safetensors" else "a.safetensors")
    saved(path, how)
    assert kind(path) == how
    loaded = load(path, mmap=mmap)
    assert loaded.content.keys() == STATE.keys()
    assert all(torch.equal(loaded.content[name], STATE[name]) for name in STATE)
    assert loaded.metadata == ({"about": "x"} if how == "safetensors" else {})


@pytest.mark.parametrize("how", ["safetensors", "zip", "pickle"])
def test_every_cut_is_one_line(tmp_path, how):
    path = tmp_path / "a.pt"
    whole = saved(path, how)
    for length in {*range(0, len(whole), 7), *range(len(whole) - 9, len(whole))}:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointFileError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(path))
        if length > 9:
            assert "cut off" in str(caught.value) or "and should have" in str(caught.value)


@pytest.mark.parametrize("how", ["safetensors", "zip", "pickle"])
def test_damage_is_one_line_or_harmless(tmp_path, how):
    path = tmp_path / "a.pt"
    whole, chance = saved(path, how), random.Random(0)
    outcomes = collections.Counter()
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        refusal = _refusal(path)
        assert "\n" not in refusal
        assert refusal.startswith(str(path)) or not refusal
        outcomes[bool(refusal)] += 1
    assert outcomes[True] > 30


def _refusal(path):
    try:
        load(path)
    except CheckpointFileError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**26) + b"{}",
        struct.pack("<Q", 4) + b"{ope",
        struct.pack("<Q", 10) + b'{"a": 1}  ',
        struct.pack("<Q", 33) + b'{"a":{"data_offsets":[0,-9e999]}}',
        struct.pack("<Q", 99_000) + b'{"a":' * 19_800,
    ],
)
def test_broken_headers_of_safetensors(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointFileError, match="no safetensors file"):
        load(path)


def test_tensors_that_do_not_fit_their_entries(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CheckpointFileError, match="damaged or cut off"):
        load(path)


@pytest.mark.parametrize("new", [False, True])
def test_other_objects_are_not_unpickled(tmp_path, new):
    path = tmp_path / "a.pt"
    content = {**STATE, "folder": pathlib.PurePosixPath("x")}
    torch.save(content, path, _use_new_zipfile_serialization=new)
    with pytest.raises(CheckpointFileError, match="objects other than tensors, which are not load"):
        load(path)
