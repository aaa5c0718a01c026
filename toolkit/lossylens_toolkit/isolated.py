"""A function from bytes to bytes in a process of its own.

For decoders in native libraries that put no bound on memory, or may crash, when they
are given hostile data.  The process is started once and kept; where it dies, or does
not answer in time, the call fails and the next one starts another.

The function is named, ``"package.module:function"``, and imported over there.  It
takes and returns ``bytes``, and raises :class:`ValueError` for data that it refuses.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import IO

_DONE, _REFUSED = b"\0", b"\1"
#: Seconds that a process gets to start and to import its function.
_START = 120.0


class RefusedError(Exception):
    """The function refused the data, or what it did to them ended the process."""


@lru_cache
def isolated(function: str, *, seconds: float, memory: int) -> IsolatedFunction:
    """Return the process of *function*; one for all who ask for the same.

    Args:
        function: import path, ``"package.module:function"``.
        seconds: that a call may take.
        memory: bytes of address space that a call may take, where the system can
            bound it.
    """
    return IsolatedFunction(function, seconds=seconds, memory=memory)


class IsolatedFunction:
    """See :func:`isolated`, which shares processes; this has one to itself."""

    def __init__(self, function: str, *, seconds: float, memory: int) -> None:
        self._command = [sys.executable, "-m", __name__, function, str(memory)]
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, data: bytes) -> bytes:
        """Return what the function makes of *data*.

        Raises:
            RefusedError: it refused them, crashed, or took too much time or memory.
            RuntimeError: the function cannot be imported.
        """
        with self._lock:
            process = self._started()
            late = threading.Event()

            def end() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(self._seconds, end)
            timer.start()
            try:
                status, answer = _ask(process, data)
            except (EOFError, OSError) as error:
                self._close()
                why = f"took more than {self._seconds:g} s" if late.is_set() else "crashed"
                raise RefusedError(f"decoding {why}") from error
            except BaseException:
                # Half of an answer may be on its way.
                self._close()
                raise
            finally:
                timer.cancel()
        if status != _DONE:
            raise RefusedError(answer.decode(errors="replace"))
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._close()
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter and this module
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        atexit.register(self._close)
        timer = threading.Timer(_START, self._process.kill)
        timer.start()
        try:
            status, answer = _receive(self._process)
        except (EOFError, OSError) as error:
            self._close()
            raise RuntimeError(f"{self._command[3]} cannot be run in a process") from error
        finally:
            timer.cancel()
        if status != _DONE:
            self._close()
            raise RuntimeError(f"{self._command[3]}: {answer.decode(errors='replace')}")
        return self._process

    def _close(self) -> None:
        atexit.unregister(self._close)
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()


def _ask(process: subprocess.Popen[bytes], data: bytes) -> tuple[bytes, bytes]:
    assert process.stdin is not None
    _send(process.stdin, data)
    return _receive(process)


def _receive(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    assert process.stdout is not None
    answer = _read(process.stdout)
    return answer[:1], answer[1:]


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes:
    head = pipe.read(8)
    length = int.from_bytes(head, "little")
    data = pipe.read(length)
    if len(head) < 8 or len(data) < length:
        raise EOFError
    return data


def _bound(memory: int) -> None:
    """Let this process take *memory* bytes of address space more than it has."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        now = int(pages) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(path: str, memory: str) -> None:
    """Answer calls until the caller is gone."""
    # What a library prints must not get among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls = sys.stdin.buffer
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        _send(answers, _REFUSED + f"{type(error).__name__}: {error}".encode())
        return
    _bound(int(memory))
    _send(answers, _DONE)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            data = _read(calls)
            try:
                answer = _DONE + function(data)
            except (ValueError, MemoryError) as error:
                answer = _REFUSED + (str(error) or "out of memory").encode()
            _send(answers, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
