import os
import sys
import time

import pytest
from lossylens_toolkit.isolated import IsolatedFunction, RefusedError, isolated


@pytest.fixture
def function(tmp_path, monkeypatch):
    """Makes a function of a module of its own run in a process of its own."""
    (tmp_path / "answering.py").write_text(
        "import os, time\n"
        "def answer(data):\n"
        "    print('what a library prints')\n"
        "    if data == b'refuse': raise ValueError('not this')\n"
        "    if data == b'die': os.abort()\n"
        "    if data == b'raise': raise KeyError\n"
        "    if data == b'sleep': time.sleep(300)\n"
        "    if data == b'eat': return bytes(2**30)\n"
        "    if data == b'pid': return str(os.getpid()).encode()\n"
        "    return data[::-1]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = IsolatedFunction("answering:answer", seconds=60, memory=2**28)
    yield made
    made.close()


def test_answers(function):
    large = os.urandom(10**7)
    assert function(b"") == b""
    assert function(large) == large[::-1]
    assert int(function(b"pid")) not in (os.getpid(), 0)
    assert function(b"pid") == function(b"pid"), "the process is kept"


def test_refusal(function):
    with pytest.raises(RefusedError, match=r"^not this$"):
        function(b"refuse")
    assert function(b"ab") == b"ba"


@pytest.mark.parametrize("how", [b"die", b"raise"])
def test_death_and_another_process(how, function):
    before = function(b"pid")
    with pytest.raises(RefusedError, match=r"^decoding crashed$"):
        function(how)
    assert function(b"pid") != before


def test_time_limit(function):
    function = IsolatedFunction("answering:answer", seconds=0.5, memory=2**28)
    function(b"")
    start = time.monotonic()
    with pytest.raises(RefusedError, match=r"took more than 0\.5 s"):
        function(b"sleep")
    assert time.monotonic() - start < 60
    function.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is Linux's")
def test_memory(function):
    with pytest.raises(RefusedError, match="out of memory"):
        function(b"eat")
    assert function(b"ab") == b"ba"


def test_a_function_that_is_not_there():
    with pytest.raises(RuntimeError, match="no_such_module"):
        IsolatedFunction("no_such_module:answer", seconds=60, memory=2**28)(b"")


def test_processes_are_shared():
    assert isolated("a:b", seconds=1, memory=1) is isolated("a:b", seconds=1, memory=1)
