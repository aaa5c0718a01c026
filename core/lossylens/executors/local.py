"""Jobs on this machine: in this process, or in a pool of worker processes.

Jobs travel in chunks, because sending one costs as much as a small picture does,
and come back one by one, because what is done should be on disk.  A worker whose
chunks are short has the next one already when it is done with one.

A worker answers in the order of its jobs, so when it dies (a crash in an encoder,
the kernel out of memory) it is known which job it had: that one fails, and a new
worker takes over the rest.  When the driver is killed, the pipe to it ends, and
workers end at once together with the programs that they have started.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Generic, TypeVar

from lossylens.errors import LossylensError
from lossylens.failure import Failure, attempt
from lossylens.loading import describe

J = TypeVar("J")
R = TypeVar("R")

#: Seconds that a worker gets to end when it is asked to.
_PATIENCE = 5.0

#: A worker gets its next chunk while it is at one, if the last took less.  What
#: takes longer would only wait there while another worker may be idle.
_SHORT = 1.0

#: Jobs that a worker may have begun and the driver has no answer of; what a killed
#: driver loses, however slow it was.
_AHEAD = 3

#: What the driver sends when it has taken an answer; no pickle is as short.
_TAKEN = b""

#: What worker processes are started with, unless it is set already.
_ENVIRONMENT = {
    # One process for each CPU, so one thread for each process.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # The C library gives the memory of an image back to the system, only to get it
    # again for the next one, page by page, which can take as long as encoding does.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
}


def run_jobs(
    function: Callable[[J], R], chunks: Iterable[Sequence[J]], workers: int
) -> Iterator[tuple[J, R | Failure]]:
    """Run *function* over the jobs in *chunks*; yield each with its result, as they are done.

    Args:
        function: for several workers a function of a module, which is imported there.
        chunks: none empty; drawn as they are needed.  For several workers, jobs are
            picklable.
        workers: number of processes; 1 is this process.

    Raises:
        LossylensError: *function* raised one that is not about its job alone, such
            as a missing requirement.
    """
    if workers > 1:
        yield from _in_processes(function, chunks, workers)
        return
    for chunk in chunks:
        for job in chunk:
            yield job, attempt(function, job)


def _in_processes(
    function: Callable[[J], R], chunks: Iterable[Sequence[J]], workers: int
) -> Iterator[tuple[J, R | Failure]]:
    pool: list[_Worker[J, R]] = []
    supply = iter(chunks)
    try:
        while True:
            done = [worker.take() for worker in _answering(pool)]
            # Before the results are dealt with, so that no worker waits.
            _feed(pool, supply, function, workers)
            yield from done
            if not any(worker.busy for worker in pool):
                return
    finally:
        for worker in pool:
            worker.stop()


def _answering(pool: list[_Worker[J, R]]) -> list[_Worker[J, R]]:
    """Wait until workers have answers; return them."""
    busy = {worker.pipe: worker for worker in pool if worker.busy}
    ready: list[Any] = wait(list(busy)) if busy else []
    return [busy[pipe] for pipe in ready]


def _feed(
    pool: list[_Worker[J, R]],
    supply: Iterator[Sequence[J]],
    function: Callable[[J], R],
    workers: int,
) -> None:
    """Give every worker that can do with more a chunk, those without any first."""
    while True:
        hungry = next((worker for worker in pool if not worker.busy), None)
        if hungry is None and len(pool) == workers:
            hungry = next((worker for worker in pool if worker.short_of_work), None)
            if hungry is None:
                return
        chunk = next(supply, None)
        if chunk is None:
            return
        if hungry is None:
            hungry = _Worker(function)
            pool.append(hungry)
        hungry.give(chunk)


class _Worker(Generic[J, R]):
    """A process and the jobs that it has."""

    def __init__(self, function: Callable[[J], R]) -> None:
        self._function = function
        self._chunks: deque[deque[J]] = deque()
        self._begun = 0.0
        self._quick = False
        self._start()

    @property
    def busy(self) -> bool:
        return bool(self._chunks)

    @property
    def short_of_work(self) -> bool:
        """Whether its last chunk will be done soon."""
        return self._quick and len(self._chunks) == 1

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection[Any, Any]
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, self._function), daemon=True
        )
        with _environment_of_workers():
            self._process.start()
        # Theirs alone, so that the pipe ends when the process does.
        theirs.close()

    def give(self, chunk: Sequence[J]) -> None:
        """Hand over jobs."""
        if not self._chunks:
            self._begun = time.monotonic()
        self._chunks.append(deque(chunk))
        self._send(self._chunks[-1])

    def _send(self, jobs: deque[J]) -> None:
        self._send_bytes(pickle.dumps(jobs, pickle.HIGHEST_PROTOCOL))

    def _send_bytes(self, message: bytes) -> None:
        # If it died just now, that shows when the next answer is taken.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(message)

    def take(self) -> tuple[J, R | Failure]:
        """Return the job that is done and its result.

        Raises:
            LossylensError: see :func:`run_jobs`.
        """
        try:
            result, problem = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._next_job(), self._replace()
        self._send_bytes(_TAKEN)
        if problem:
            raise LossylensError(problem)
        return self._next_job(), result

    def _next_job(self) -> J:
        """Return the job that was answered and forget it."""
        job = self._chunks[0].popleft()
        if not self._chunks[0]:
            now = time.monotonic()
            self._quick, self._begun = now - self._begun < _SHORT, now
            self._chunks.popleft()
        return job

    def _replace(self) -> Failure:
        """Start another process with what this one has left; return how this one died."""
        self._process.join(_PATIENCE)
        failure = Failure(_death(self._process.exitcode))
        self.stop()
        self._start()
        for jobs in self._chunks:
            self._send(jobs)
        return failure

    def stop(self) -> None:
        """End the process and all that it has started, such as an encoder."""
        self.pipe.close()
        if self._process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection[Any, Any], function: Callable[[Any], Any]) -> None:
    """Do jobs until the driver is gone."""
    # A process group of its own: Ctrl-C is the driver's to deal with, and an
    # encoder that a codec has started ends together with its worker.
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _leave)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ahead = threading.Semaphore(_AHEAD)
    threading.Thread(target=_receive, args=(pipe, inbox, ahead), daemon=True).start()
    with contextlib.suppress(ConnectionError):
        while True:
            for job in inbox.get():
                ahead.acquire()
                try:
                    answer = (attempt(function, job), "")
                except LossylensError as error:
                    answer = (None, str(error))
                pipe.send(answer)


def _receive(
    pipe: Connection[Any, Any], inbox: queue.SimpleQueue[Any], ahead: threading.Semaphore
) -> None:
    """Take in jobs while others are done, so that the driver never waits to be rid of them."""
    try:
        while True:
            message = pipe.recv_bytes()
            if message == _TAKEN:
                ahead.release()
                continue
            try:
                inbox.put(pickle.loads(message))  # noqa: S301  from the driver
            except Exception as error:
                pipe.send((None, f"a job cannot be passed to a process: {describe(error)}"))
    except (EOFError, OSError):
        # The driver is gone.  This interrupts the job at hand as well.
        os.killpg(0, signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> None:
    """End this process by an exception, so that temporary files are removed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


@contextlib.contextmanager
def _environment_of_workers() -> Iterator[None]:
    """Start processes inside with :data:`_ENVIRONMENT`."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the worker process was killed by {signal.Signals(-code).name}"
    return f"the worker process ended with exit code {code}"
