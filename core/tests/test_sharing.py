"""Bitstreams that runs share."""

import subprocess
import sys

import pytest
from lossylens.errors import StoreError
from lossylens.store.sharing import SharedBitstreams


def test_what_was_put_is_there(tmp_path):
    shared = SharedBitstreams(tmp_path / "cache")
    assert shared.get("codec", "ab12") is None
    shared.put("codec", "ab12", b"bitstream")
    assert shared.get("codec", "ab12") == b"bitstream"
    assert shared.get("another", "ab12") is None
    assert shared.get("codec", "ab13") is None
    shared.put("codec", "ab12", b"")
    assert shared.get("codec", "ab12") == b""


@pytest.mark.parametrize(
    "damage", [lambda e: e[:-1], lambda e: e + b"x", lambda e: b"", bytes.swapcase]
)
def test_damage_is_noticed(tmp_path, damage):
    shared = SharedBitstreams(tmp_path)
    shared.put("codec", "ab12", b"bitstream")
    (entry,) = (tmp_path / "encodings").rglob("ab12")
    entry.write_bytes(damage(entry.read_bytes()))
    assert shared.get("codec", "ab12") is None
    shared.put("codec", "ab12", b"bitstream")
    assert shared.get("codec", "ab12") == b"bitstream"


def test_nothing_else_is_left(tmp_path):
    shared = SharedBitstreams(tmp_path)
    for number in range(3):
        shared.put("codec", f"ab1{number}", b"bitstream")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "cache").write_text("a file")
    shared = SharedBitstreams(tmp_path / "cache")
    for use in (lambda: shared.put("c", "ab", b""), lambda: shared.locked("c", "ab").__enter__()):
        with pytest.raises(StoreError, match=r"cannot use run\.cache .*cache: "):
            use()


def test_an_entry_is_locked_against_other_processes(tmp_path):
    """And the lock of a process that is killed is free."""
    script = (
        "import sys, time; from pathlib import Path; from lossylens.store.sharing import *\n"
        "with SharedBitstreams(Path(sys.argv[1])).locked('codec', 'ab12'):\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, tmp_path]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second,
    ):
        processes = {first.stdout: first, second.stdout: second}
        import select

        (ready,), _, _ = select.select(list(processes), [], [], 60)
        assert ready.readline() == "locked\n"
        (other,) = processes.keys() - {ready}
        assert select.select([other], [], [], 0.5)[0] == []
        processes[ready].kill()
        assert other.readline() == "locked\n"
        processes[other].kill()
