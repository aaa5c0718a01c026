"""What a worker process does; it is begun by :mod:`lossylens.run.executors.child`.

It takes in jobs while others are done and gives each result back as it is there.  When the
process that has started it is gone, the pipe between them ends, and it ends at once together
with the programs that it has started.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from lossylens.errors import LossylensError, PluginError, describe
from lossylens.executor import Recipe

#: What the driver sends besides jobs; no pickle is as short.
TAKEN = b""

#: Results that the driver need not have taken before the next job is begun; what a killed
#: driver loses, however slow it was.
_AHEAD = 3

#: Seconds that a process gets to end when it is asked to.
PATIENCE = 5.0

#: Seconds after which leaving is tried again.
_MOMENT = 0.01


class _Leave(BaseException):
    """Ends a process by an exception, so that temporary files are removed."""


def serve(descriptor: int) -> None:
    """Do the jobs that come from a pipe, until the driver is gone."""
    pipe: Connection[Any, Any] = Connection(descriptor)
    signal.signal(signal.SIGTERM, _leave)
    sys.unraisablehook = _tell_unless_leaving
    # What plugins print must not end up in tables and JSON.
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ahead = threading.Semaphore(_AHEAD)
    threading.Thread(target=_receive, args=(pipe, inbox, ahead), daemon=True).start()
    try:
        _work(pipe, inbox, ahead)
    except ConnectionError:
        pass
    except _Leave:
        sys.exit(128 + signal.SIGTERM)


def _work(
    pipe: Connection[Any, Any], inbox: queue.SimpleQueue[Any], ahead: threading.Semaphore
) -> None:
    recipe: Recipe[Any, Any] = inbox.get()
    try:
        work = recipe.start()
        _say(pipe, "ready", None)
        while True:
            # Waits for the first jobs, so that the work is not called for none.
            results = work(_jobs(inbox.get(), inbox), partial(_say, pipe, "begun"))
            # Closed at once, so that processes of its own end before this one.
            with contextlib.closing(results):
                for result in results:
                    ahead.acquire()
                    _say(pipe, "result", result)
    except (ConnectionError, _Leave):
        raise
    except LossylensError as error:
        _say(pipe, "stop", str(error))
    except BaseException as error:
        problem = PluginError(f"{recipe.title} cannot work: {describe(error)}")
        _say(pipe, "stop", str(problem), "".join(traceback.format_exception(error)))


def _say(pipe: Connection[Any, Any], kind: str, content: Any, trace: str = "") -> None:
    pipe.send((kind, content, trace))


def _jobs(chunk: Sequence[Any], inbox: queue.SimpleQueue[Any]) -> Iterator[Any]:
    """Yield the jobs that are there.

    It does not wait for more: what does several at once would not do those that it has until
    these came, and they may come only when those are done.
    """
    with contextlib.suppress(queue.Empty):
        while True:
            yield from chunk
            chunk = inbox.get_nowait()


def _receive(
    pipe: Connection[Any, Any], inbox: queue.SimpleQueue[Any], ahead: threading.Semaphore
) -> None:
    """Take in jobs while others are done, so that the driver never waits to be rid of them."""
    try:
        while True:
            message = pipe.recv_bytes()
            if message == TAKEN:
                ahead.release()
            else:
                try:
                    inbox.put(pickle.loads(message))  # noqa: S301  from the driver
                except Exception as error:
                    _say(pipe, "stop", f"a job cannot be passed to a process: {describe(error)}")
    except (EOFError, OSError):
        # The driver is gone.  This interrupts the job at hand as well, unless that is in native
        # code, which nobody would bound any more.
        os.killpg(0, signal.SIGTERM)
        time.sleep(PATIENCE)
        os.killpg(0, signal.SIGKILL)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Leave


def _tell_unless_leaving(unraisable: sys.UnraisableHookArgs) -> None:
    """Leave a moment later where the interpreter has swallowed it, as in a finaliser."""
    if unraisable.exc_type is not _Leave:
        sys.__unraisablehook__(unraisable)
        return
    signal.signal(signal.SIGTERM, _leave)
    threading.Timer(_MOMENT, os.kill, (os.getpid(), signal.SIGTERM)).start()
