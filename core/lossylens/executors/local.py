"""Jobs on this machine: in this process, or in a pool of worker processes.

A worker has one job at a time, so when a worker dies (a crash in an encoder, the
kernel out of memory) it is known which job it had: that one fails and the worker
is replaced.  Workers end by themselves when the driver is killed, because the
pipe to it then ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from lossylens.errors import LossylensError
from lossylens.failure import Failure, attempt

J = TypeVar("J")
R = TypeVar("R")

#: Seconds that a worker gets to end when it is asked to.
_PATIENCE = 5.0

#: One process for each CPU, so one thread for each process.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_jobs(
    function: Callable[[J], R], jobs: Iterable[J], workers: int
) -> Iterator[tuple[J, R | Failure]]:
    """Run *function* over *jobs*; yield each with its result, as they are done.

    Args:
        function: for several workers a function of a module, which is imported there.
        jobs: drawn as they are needed; picklable for several workers.
        workers: number of processes; 1 is this process.

    Raises:
        LossylensError: *function* raised one that is not about its job alone, such
            as a missing requirement.
    """
    if workers > 1:
        yield from _in_processes(function, jobs, workers)
        return
    for job in jobs:
        yield job, attempt(function, job)


def _in_processes(
    function: Callable[[J], R], jobs: Iterable[J], workers: int
) -> Iterator[tuple[J, R | Failure]]:
    pool: list[_Worker[J, R]] = []
    try:
        for job in jobs:
            if len(pool) < workers:
                pool.append(_Worker(function))
                pool[-1].give(job)
                continue
            worker, done = _next_done(pool)
            # Before the result is dealt with, so that the worker does not wait.
            worker.give(job)
            yield done
        for _ in range(len(pool)):
            yield _next_done(pool)[1]
    finally:
        for worker in pool:
            worker.stop()


def _next_done(pool: list[_Worker[J, R]]) -> tuple[_Worker[J, R], tuple[J, R | Failure]]:
    """Wait for a worker to be done; return it, its job and the result."""
    busy = {worker.pipe: worker for worker in pool if worker.busy}
    ready: Any = wait(list(busy))
    worker = busy[ready[0]]
    return worker, worker.take()


class _Worker(Generic[J, R]):
    """A process and the job that it has."""

    def __init__(self, function: Callable[[J], R]) -> None:
        self._function = function
        self._jobs: list[J] = []
        self._start()

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection[Any, Any]
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_serve, args=(theirs, self._function), daemon=True
        )
        with _one_thread():
            self._process.start()
        # Theirs alone, so that the pipe ends when the process does.
        theirs.close()

    def give(self, job: J) -> None:
        """Hand over a job."""
        if not self._process.is_alive():
            self.pipe.close()
            self._start()
        self._jobs.append(job)
        # If it died just now, that shows when the result is taken.
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(job)

    def take(self) -> tuple[J, R | Failure]:
        """Return the job and its result.

        Raises:
            LossylensError: see :func:`run_jobs`.
        """
        job = self._jobs.pop()
        try:
            result, problem = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(_PATIENCE)
            return job, Failure(_death(self._process.exitcode))
        if problem:
            raise LossylensError(problem)
        return job, result

    def stop(self) -> None:
        """End the process and all that it has started, such as an encoder."""
        self.pipe.close()
        if self._process.is_alive() and self._process.pid:
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
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            job = pipe.recv()
            try:
                answer = (attempt(function, job), "")
            except LossylensError as error:
                answer = (None, str(error))
            pipe.send(answer)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started inside compute in one thread, unless told otherwise."""
    added = [name for name in _ONE_THREAD if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the worker process was killed by {signal.Signals(-code).name}"
    return f"the worker process ended with exit code {code}"
