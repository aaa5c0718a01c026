from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.toolkit.cache import cache_folder
from lossylens.toolkit.tsv_task import checksum as module
from lossylens.toolkit.tsv_task.checksum import file_checksum

LONG_AGO = (10**9, 10**9)


@pytest.fixture
def path(write) -> Path:
    path = write("content")
    os.utime(path, LONG_AGO)
    return path


def remembered() -> dict:
    try:
        return json.loads((cache_folder() / "checksums.json").read_text())
    except FileNotFoundError:
        return {}


def test_the_checksums_are_those_of_the_content(path):
    checksum = file_checksum(path)
    assert checksum.sha256 == hashlib.sha256(b"content").hexdigest()
    assert checksum.md5 == hashlib.md5(b"content").hexdigest()


def test_a_file_is_read_once(path, monkeypatch):
    first = file_checksum(path)
    monkeypatch.setattr(module.hashlib, "sha256", None)
    assert file_checksum(path) == first


def test_a_changed_file_is_read_again(path):
    first = file_checksum(path)
    path.write_text("CONTENT")
    os.utime(path, (2 * 10**9, 2 * 10**9))
    assert file_checksum(path) != first


def test_a_file_that_may_still_change_is_not_remembered(write):
    file_checksum(write("content"))
    assert remembered() == {}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"PATH": 3}', '{"PATH": {"key": [7, 1]}}'])
def test_a_damaged_memory_is_no_error(path, content):
    cache_folder().mkdir()
    (cache_folder() / "checksums.json").write_text(content.replace("PATH", str(path)))
    assert file_checksum(path).md5 == hashlib.md5(b"content").hexdigest()
    assert str(path) in remembered()


def test_a_folder_that_cannot_be_written_to_is_no_error(path, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("LOSSYLENS_CACHE", str(blocked / "cache"))
    assert file_checksum(path).md5 == hashlib.md5(b"content").hexdigest()


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        file_checksum(tmp_path / "none")


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
