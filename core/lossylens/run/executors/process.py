"""One worker process: jobs in, results out, bounded in time and memory.

It answers in the order of its jobs, so when it dies (a crash in a library, the kernel out
of memory) it is known which jobs it had: those fail, and another process takes over the
rest.  When the process that has started it is killed, the pipe between them ends, and it
ends at once together with the programs that it has started.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Generic

import psutil

from lossylens.errors import LossylensError, PluginError, describe
from lossylens.executor import J, R, Recipe, Resources
from lossylens.failure import Failure
from lossylens.run.threads import WAITING

#: Seconds that a process gets to end when it is asked to.
_PATIENCE = 5.0

#: Seconds between two looks at the limits.
TICK = 0.2

#: A worker whose chunks take less than so many seconds has the next one waiting, so that it
#: is not idle while the driver does something else; longer ones could only wait there while
#: another worker may be idle.
_SHORT = 1.0

#: Results that the driver need not have taken before the next job is begun; what a killed
#: driver loses, however slow it was.
_AHEAD = 3

# What the driver sends besides jobs; no pickle is as short.
_TAKEN, _END = b"", b"e"

#: What processes are started with, unless it is set already.
_ENVIRONMENT = {
    **WAITING,
    # The C library gives the memory of an image back to the system, only to get it
    # again for the next one, page by page, which can take as long as encoding does.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

# Held while the environment of this process is that of its children.
_environment_lock = threading.Lock()


class WorkerProcess(Generic[J, R]):
    """A process and the jobs that it has.

    Args:
        recipe: what it does.
        resources: its limits.
        devices: CUDA devices that it alone uses; none for whatever it sees.
    """

    def __init__(
        self, recipe: Recipe[J, R], resources: Resources, devices: tuple[str, ...] = ()
    ) -> None:
        self.recipe, self._resources, self.devices = recipe, resources, devices
        self._chunks: deque[deque[J]] = deque()
        self._given = 0.0
        self._quick = False
        self._ending = False
        self._start()

    @property
    def busy(self) -> bool:
        """Whether it has jobs."""
        return bool(self._chunks)

    @property
    def short_of_work(self) -> bool:
        """Whether its last chunk will be done soon."""
        return self._quick and len(self._chunks) == 1

    @property
    def has_two(self) -> bool:
        """Whether another chunk waits for the one at hand."""
        return len(self._chunks) > 1

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection[Any, Any]
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _environment_of_workers(self._resources.threads, self.devices):
            self._process.start()
        # Theirs alone, so that the pipe ends when the process does.
        theirs.close()
        self._watched: psutil.Process | None = None
        self._begun: int | None = None
        self._active = time.monotonic()
        self._send(self.recipe)

    def give(self, chunk: Sequence[J]) -> None:
        """Hand over jobs."""
        now = time.monotonic()
        if not self._chunks:
            self._given = self._active = now
        self._chunks.append(deque(chunk))
        self._ending = False
        self._send(self._chunks[-1])

    def end(self) -> None:
        """Say that there are no more jobs for the time being."""
        if not self._ending:
            self._ending = True
            self._send_bytes(_END)

    def _send(self, message: Any) -> None:
        self._send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    def _send_bytes(self, message: bytes) -> None:
        # If it died just now, that shows when the next answer is taken.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(message)

    def take(self) -> list[tuple[J, R | Failure]]:
        """Return what the next message says is done; waits for it.

        Raises:
            LossylensError: the process says that no job can be done.
        """
        try:
            kind, content, trace = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._lost(self._death())
        self._active = time.monotonic()
        if kind == "stop":
            raise LossylensError(content) from (RuntimeError(trace) if trace else None)
        if kind == "begun":
            self._begun = content
            return []
        self._send_bytes(_TAKEN)
        if self._begun:
            self._begun -= 1
        return [(self._next_job(), content)]

    def check(self) -> list[tuple[J, R | Failure]]:
        """Return the jobs that have failed because a limit is passed; the process was ended."""
        if not self.busy:
            return []
        failure = self._excess()
        if failure is None:
            return []
        self._kill()
        return self._lost(failure)

    def _excess(self) -> Failure | None:
        seconds, memory = self._resources.seconds, self._resources.memory
        if seconds is not None and self._begun != 0 and time.monotonic() - self._active > seconds:
            return Failure(f"it took longer than {seconds:g} s (run.timeout)", fault="timeout")
        if memory is not None and self._memory() > memory:
            size = f"{memory / 1e9:.3g} GB"
            return Failure(f"it took more than {size} of memory (run.memory)", fault="memory")
        return None

    def _memory(self) -> int:
        try:
            if self._watched is None:
                self._watched = psutil.Process(self._process.pid)
            return int(self._watched.memory_info().rss)
        except psutil.Error:
            return 0

    def _next_job(self) -> J:
        """Return the job that was answered and forget it."""
        job = self._chunks[0].popleft()
        if not self._chunks[0]:
            now = time.monotonic()
            self._quick, self._given = now - self._given < _SHORT, now
            self._chunks.popleft()
        return job

    def _lost(self, failure: Failure) -> list[tuple[J, R | Failure]]:
        """Return the jobs that were at hand as failed; start another process with the rest."""
        self.stop()
        count = 1 if self._begun is None else max(1, self._begun)
        count = min(count, sum(map(len, self._chunks)))
        failure = replace(failure, died=count)
        lost: list[tuple[J, R | Failure]] = [(self._next_job(), failure) for _ in range(count)]
        if self._chunks:
            self._start()
            for jobs in self._chunks:
                self._send(jobs)
            if self._ending:
                self._send_bytes(_END)
        return lost

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return not self.ended and self._process.is_alive()

    @property
    def ended(self) -> bool:
        """Whether the process is gone for good."""
        return self.pipe.closed

    def _death(self) -> Failure:
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        fault = f"died {code}"
        if code is None or code >= 0:
            return Failure(f"the worker process ended with exit code {code}", fault=fault)
        name = signal.Signals(-code).name
        reason = f"the worker process was killed by {name}"
        if code == -signal.SIGKILL:
            # Nobody here did it; the kernel does when memory runs out.
            return Failure(f"{reason}, perhaps for want of memory", transient=True)
        return Failure(reason, fault=fault)

    def _kill(self) -> None:
        if self._process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()

    def stop(self) -> None:
        """End the process and all that it has started, such as an encoder."""
        self.pipe.close()
        if self._process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._kill()
            self._process.join()


class _Leave(BaseException):
    """Ends a process by an exception, so that temporary files are removed."""


def _serve(pipe: Connection[Any, Any]) -> None:
    """Do jobs until the driver is gone."""
    # A process group of its own: Ctrl-C is the driver's to deal with, and an
    # encoder that a codec has started ends together with its worker.
    os.setpgid(0, 0)
    # A worker that answers has one that decodes.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, _leave)
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
        while True:
            # Waits for the first job, so that the work is not called for none.
            jobs = _jobs(inbox)
            first = next(jobs, None)
            if first is None:
                continue
            results = work(itertools.chain([first], jobs), partial(_say, pipe, "begun"))
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


def _jobs(inbox: queue.SimpleQueue[Any]) -> Iterator[Any]:
    """Yield jobs until there are no more for the time being."""
    while (chunk := inbox.get()) is not None:
        yield from chunk


def _receive(
    pipe: Connection[Any, Any], inbox: queue.SimpleQueue[Any], ahead: threading.Semaphore
) -> None:
    """Take in jobs while others are done, so that the driver never waits to be rid of them."""
    try:
        while True:
            message = pipe.recv_bytes()
            if message == _TAKEN:
                ahead.release()
            elif message == _END:
                inbox.put(None)
            else:
                try:
                    inbox.put(pickle.loads(message))  # noqa: S301  from the driver
                except Exception as error:
                    _say(pipe, "stop", f"a job cannot be passed to a process: {describe(error)}")
    except (EOFError, OSError):
        # The driver is gone.  This interrupts the job at hand as well.
        os.killpg(0, signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Leave


@contextlib.contextmanager
def _environment_of_workers(threads: int | None, devices: tuple[str, ...]) -> Iterator[None]:
    """Start processes inside with :data:`_ENVIRONMENT` and what is particular to one."""
    wanted = dict(_ENVIRONMENT)
    if threads is not None:
        wanted |= dict.fromkeys(_THREADS, str(threads))
    with _environment_lock:
        before = dict(os.environ)
        os.environ.update({name: value for name, value in wanted.items() if name not in before})
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        try:
            yield
        finally:
            for name in set(os.environ) - set(before):
                del os.environ[name]
            os.environ.update(before)
