"""Child processes, and how they begin and end.

A child leads a process group of its own: Ctrl-C is its parent's to deal with, and what it
starts, such as an encoder, ends together with it.  A program of the user's is a child whose
parent waits for it (:mod:`lossylens_toolkit.external_codec.program_running`); a
:class:`Child` is this interpreter, which serves over a pipe.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import psutil

from lossylens.run.executors.serving import PATIENCE

#: Bytes for which every system has room in a pipe of which it says that it can be written to.
_SMALL = 1024

#: Messages to a child, and None when there are no more.
_Outbox = queue.Queue[bytes | None]

# With the parent's path, before anything is imported from it.
_BEGIN = (
    "import sys; descriptor, *path = sys.argv[1:]; del sys.argv[1:];"
    "sys.path = [*dict.fromkeys(path + sys.path)];"
    "from lossylens.run.executors.serving import serve; serve(int(descriptor))"
)


class Child:
    """This interpreter in another process, serving: :mod:`lossylens.run.executors.serving`.

    It runs neither the script of its parent nor anything of its memory.  When its parent
    ends in whatever way, the pipe does, and so does it.

    Args:
        environment: variables beside those of this process, or in their stead.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.pipe: Connection[Any, Any]
        self.pipe, theirs = Pipe()
        # Theirs alone, so that the pipe ends when the process does.
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter
                [sys.executable, "-P", "-c", _BEGIN, str(theirs.fileno()), *map(str, sys.path)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
                env={**os.environ, **environment},
            )
        self._watched: psutil.Process | None = None
        self._room = select.poll()
        self._room.register(self.pipe, select.POLLOUT)
        self._outbox: _Outbox = queue.Queue()
        writer = threading.Thread(target=_write, args=(self.pipe, self._outbox), daemon=True)
        writer.start()
        # At the latest when this interpreter ends.
        self._asked = _Asked()
        self._end = weakref.finalize(
            self, _stop, self.pipe, self._process, self._outbox, writer, self._asked
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def memory(self) -> int:
        """Resident bytes; 0 if that is not told."""
        try:
            if self._watched is None:
                self._watched = psutil.Process(self._process.pid)
            return int(self._watched.memory_info().rss)
        except psutil.Error:
            return 0

    def send(self, message: bytes) -> None:
        """Send it a message; does not wait, as it may hang without taking any in.

        If it has died, that shows when its pipe is read.  For one thread at a time.
        """
        # Another thread costs more than the rest of a small job.
        if len(message) > _SMALL or self._outbox.unfinished_tasks or not self._room.poll(0):
            self._outbox.put(message)
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(message)

    def wait(self) -> int | None:
        """Return how a process ended whose pipe did, None if it has not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        return self._process.returncode

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        kill_group(self._process.pid)

    def ask(self) -> None:
        """Ask it and all that it has started to end."""
        self._asked.once(self._process.pid)

    def stop(self) -> None:
        """Ask it and all that it has started to end; after some seconds, end it."""
        self._end()


class _Asked:
    """When a process was asked to end."""

    def __init__(self) -> None:
        self._at: float | None = None

    def once(self, leader: int) -> None:
        """Ask a process and all that it has started, unless that was done."""
        if self._at is None:
            self._at = time.monotonic()
            kill_group(leader, signal.SIGTERM)

    @property
    def left(self) -> float:
        """Seconds that it still gets."""
        return max(0.0, PATIENCE - (time.monotonic() - (self._at or 0.0)))


def _write(pipe: Connection[Any, Any], outbox: _Outbox) -> None:
    with contextlib.suppress(OSError):
        while (message := outbox.get()) is not None:
            pipe.send_bytes(message)
            outbox.task_done()


def _stop(
    pipe: Connection[Any, Any],
    process: subprocess.Popen[bytes],
    outbox: _Outbox,
    writer: threading.Thread,
    asked: _Asked,
) -> None:
    outbox.put(None)
    # What it has started may outlive it.
    asked.once(process.pid)
    try:
        process.wait(asked.left)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        process.wait()
    # Nothing may be written to what has this pipe's number next.
    writer.join(PATIENCE)
    pipe.close()


def kill_group(leader: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process and all that it has started, as far as there is any left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def ending(status: int) -> str:
    """Return how a process ended, in words: its exit code, or the signal that killed it."""
    if status >= 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def told(process: str, field: str) -> int:
    """Return what Linux tells of a process (its number, or ``self``) in bytes, else 0."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def peak_address_space() -> int:
    """Return the largest address space that this process has had; 0 if it is not told.

    An allocation counts whether or not it is touched.
    """
    return told("self", "VmPeak")


def limit_address_space(memory: int) -> None:
    """Let this process take *memory* bytes more than it has had, and leave no core file."""
    before = peak_address_space()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if before:
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (before + memory, hard))
