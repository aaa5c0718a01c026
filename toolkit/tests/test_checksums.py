from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from lossylens_toolkit import checksums as module
from lossylens_toolkit.cache_folder import cache_folder
from lossylens_toolkit.checksums import file_checksums

SHA256 = hashlib.sha256(b"content").hexdigest()
MD5 = hashlib.md5(b"content").hexdigest()
LONG_AGO = (10**9, 10**9)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """A file of long ago; nobody can set the time of its status change."""
    monkeypatch.setattr(module, "_SETTLED_NS", 0)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, LONG_AGO)
    return path


def remembered() -> dict:
    try:
        return json.loads((cache_folder() / "checksums.json").read_text())
    except FileNotFoundError:
        return {}


def test_the_checksums_are_those_of_the_content(path):
    assert file_checksums(path, "sha256", "md5") == {"sha256": SHA256, "md5": MD5}


def test_a_file_is_read_once(path, monkeypatch):
    file_checksums(path, "md5")
    first = file_checksums(path, "sha256", "md5")
    monkeypatch.setattr(module, "_computed", None)
    assert file_checksums(path, "sha256", "md5") == first
    assert file_checksums(path, "sha256") == {"sha256": SHA256}


def _changed(path: Path, before: module.Identity) -> None:
    """Give the file its old time; as long as that takes for the clock of the file system."""
    os.utime(path, LONG_AGO)
    while module.file_identity(path) == before:
        os.utime(path, LONG_AGO)


def _in_place(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def _copied(path: Path, other: Path) -> None:
    shutil.copy2(other, path)


def _renamed(path: Path, other: Path) -> None:
    other.replace(path)


def _swapped_link(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [_in_place, _copied, _renamed, _swapped_link])
def test_a_changed_file_of_the_same_size_and_time_is_read_again(path, tmp_path, change):
    other = tmp_path / "other"
    other.write_bytes(b"CONTENT")
    os.utime(other, LONG_AGO)
    assert file_checksums(path, "sha256") == {"sha256": SHA256}
    before = module.file_identity(path)
    change(path, other)
    _changed(path, before)
    assert file_checksums(path, "sha256") == {"sha256": hashlib.sha256(b"CONTENT").hexdigest()}


def test_a_file_that_may_still_change_is_not_remembered(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, LONG_AGO)
    assert file_checksums(path, "sha256") == {"sha256": SHA256}
    assert remembered() == {}


def test_a_file_that_changes_while_it_is_read_is_not_remembered(path, monkeypatch):
    computed = module._computed

    def while_reading(*arguments):
        found = computed(*arguments)
        before = module.file_identity(path)
        path.write_bytes(b"CONTENT")
        _changed(path, before)
        return found

    monkeypatch.setattr(module, "_computed", while_reading)
    file_checksums(path, "sha256")
    assert remembered() == {}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"PATH": 3}',
        '{"PATH": {"key": [7, 1]}}',
        '{"PATH": {"identity": IDENTITY}}',
        '{"PATH": {"identity": IDENTITY, "checksums": [1]}}',
        '{"PATH": {"identity": IDENTITY, "checksums": {"md5": 1}}}',
    ],
)
def test_a_damaged_memory_is_no_error(path, content):
    cache_folder().mkdir()
    identity = json.dumps(module.file_identity(path))
    text = content.replace("PATH", str(path)).replace("IDENTITY", identity)
    (cache_folder() / "checksums.json").write_text(text)
    assert file_checksums(path, "md5") == {"md5": MD5}
    assert remembered()[str(path)]["checksums"] == {"md5": MD5}


def test_a_folder_that_cannot_be_written_to_is_no_error(path, tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("LOSSYLENS_CACHE", str(blocked / "cache"))
    assert file_checksums(path, "md5") == {"md5": MD5}


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        file_checksums(tmp_path / "none", "md5")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LOSSYLENS_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/lossylens"),
        ({"HOME": "/c"}, "/c/.cache/lossylens"),
    ],
)
def test_the_folder_follows_the_environment(monkeypatch, variables, expected):
    monkeypatch.delenv("LOSSYLENS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
