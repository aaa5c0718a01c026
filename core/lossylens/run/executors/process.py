"""One worker process: jobs in, results out, bounded in time and memory.

It answers in the order of its jobs, so when it dies (a crash in a library, the kernel out
of memory) it is known which jobs it had: those fail, and another process takes over the
rest.  Killed from outside, it is given them once more.  All work of plugins that must not
take the driver with it is done so: that of a run, and through :class:`BoundedFunction`
decoding beside a model, decoders in native libraries, and what the conformance suite decodes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any, Generic

import psutil

from lossylens.errors import LossylensError
from lossylens.executor import HALF_OF_MACHINE, J, R, Recipe, Resources
from lossylens.failure import Failure
from lossylens.run.executors.child import Child, ending
from lossylens.run.executors.pool import Worker
from lossylens.run.executors.serving import TAKEN
from lossylens.run.threads import WAITING

#: Seconds between two looks at the limits.
TICK = 0.2

#: What processes are started with, unless it is set already.
_ENVIRONMENT = {
    **WAITING,
    # The C library gives the memory of an image back to the system, only to get it
    # again for the next one, page by page, which can take as long as encoding does.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_NONE: Mapping[str, str] = MappingProxyType({})


class WorkerProcess(Worker[J, R]):
    """A process and the jobs that it has.

    Args:
        recipe: what it does.
        resources: its limits.
        devices: CUDA devices that it alone uses; none for whatever it sees.
        environment: variables that it is to have.
        starting: seconds that it may take to start, beyond those of the first jobs.
    """

    def __init__(
        self,
        recipe: Recipe[J, R],
        resources: Resources,
        devices: tuple[str, ...] = (),
        environment: Mapping[str, str] = _NONE,
        starting: float = 0.0,
    ) -> None:
        super().__init__(recipe)
        if resources.memory == HALF_OF_MACHINE:
            resources = replace(resources, memory=psutil.virtual_memory().total // 2)
        self._resources, self.devices = resources, devices
        self._environment, self._starting = environment, starting
        self._killed: list[J] = []
        self._start()

    def _start(self) -> None:
        self._child = Child(self._variables())
        self.ready = False
        self.begun: int | None = None
        self._active = time.monotonic()
        self._send(self.recipe)

    @property
    def pipe(self) -> Connection[Any, Any]:
        """Has something to be read when there is something to be taken."""
        return self._child.pipe

    def _variables(self) -> dict[str, str]:
        """Return the environment of the process, as far as it is particular."""
        wanted = dict(_ENVIRONMENT)
        if self._resources.threads is not None:
            wanted |= dict.fromkeys(_THREADS, str(self._resources.threads))
        found = {name: value for name, value in wanted.items() if name not in os.environ}
        if self.devices:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(self.devices)
        return {**found, **self._environment}

    def give(self, chunk: Sequence[J]) -> None:
        """Hand over jobs."""
        if not self._chunks:
            self._active = time.monotonic()
        self._send(self._take_on(chunk))

    def _send(self, message: Any) -> None:
        self._child.send(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

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
        if kind == "result":
            self._child.send(TAKEN)
        return self._noted(kind, content)

    def _noted(self, kind: str, content: Any) -> list[tuple[J, R | Failure]]:
        """Note what a message says; return the job that it says is done."""
        if kind == "ready":
            self.ready = True
            return []
        if kind == "begun":
            self.begun = content
            return []
        if self.begun:
            self.begun -= 1
        return [(self._next_job(), content)]

    def check(self) -> list[tuple[J, R | Failure]]:
        """Return the jobs that have failed because a limit is passed; the process was ended."""
        if not self.busy:
            return []
        failure = self._excess()
        if failure is None:
            return []
        self._child.kill()
        # What was done before and lies in the pipe has nothing to do with it.
        return self._left_in_pipe() + self._lost(failure)

    def _left_in_pipe(self) -> list[tuple[J, R | Failure]]:
        """Return the results of a process that was killed which were not taken yet."""
        found: list[tuple[J, R | Failure]] = []
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while self.busy:
                kind, content, _ = self.pipe.recv()
                if kind != "stop":
                    found += self._noted(kind, content)
        return found

    def _excess(self) -> Failure | None:
        seconds, memory = self._resources.seconds, self._resources.memory
        if seconds is not None and self.begun != 0:
            given = seconds if self.ready else seconds + self._starting
            if time.monotonic() - self._active > given:
                reason = f"it took longer than {seconds:g} s (run.timeout)"
                return Failure(reason, fault="timeout")
        if memory is not None and self._child.memory > memory:
            size = f"{memory / 1e9:.3g} GB"
            return Failure(f"it took more than {size} of memory (run.memory)", fault="memory")
        return None

    def _lost(self, failure: Failure) -> list[tuple[J, R | Failure]]:
        """Return the jobs that were at hand as failed; start another process with the rest."""
        self.stop()
        count = 1 if self.begun is None else max(1, self.begun)
        at_hand = list(itertools.islice(itertools.chain(*self._chunks), count))
        lost: list[tuple[J, R | Failure]] = []
        if failure.transient and not any(each is job for each in at_hand for job in self._killed):
            # They may have nothing to do with it.
            self._killed = at_hand
        else:
            failure = replace(failure, died=len(at_hand))
            lost = [(self._next_job(), failure) for _ in at_hand]
        if self._chunks:
            self._start()
            for jobs in self._chunks:
                self._send(jobs)
        return lost

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return not self.ended and self._child.alive

    @property
    def ended(self) -> bool:
        """Whether the process is gone for good."""
        return self.pipe.closed

    def _death(self) -> Failure:
        code = self._child.wait()
        if code is None or code >= 0:
            reason = f"the worker process ended with {ending(code or 0)}"
        else:
            reason = f"the worker process was {ending(code)}"
        if code == -signal.SIGKILL:
            # Nobody here did it; the kernel does when memory runs out.
            return Failure(f"{reason}, perhaps for want of memory", transient=True)
        return Failure(reason, fault=f"died {code}")

    def ask(self) -> None:
        """Ask the process and all that it has started to end, which :meth:`stop` waits for."""
        self._child.ask()

    def stop(self) -> None:
        """End the process and all that it has started, such as an encoder."""
        self._child.stop()


class BoundedFunction(Generic[J, R]):
    """What a recipe does, in one process, job by job; in another one where that ends.

    For one thread at a time.  The arguments are those of :class:`WorkerProcess`.
    """

    def __init__(
        self,
        recipe: Recipe[J, R],
        resources: Resources,
        environment: Mapping[str, str] = _NONE,
        starting: float = 0.0,
    ) -> None:
        self._recipe, self._resources = recipe, resources
        self._environment, self._starting = environment, starting
        self._process: WorkerProcess[J, R] | None = None

    def __call__(self, job: J) -> R | Failure:
        """Do a job; a failure says how it has ended the process, or why the process was ended.

        Raises:
            LossylensError: the recipe cannot work, or its work raised an exception.
        """
        process = self._running()
        try:
            process.give([job])
            while True:
                done = process.take() if process.pipe.poll(TICK) else process.check()
                for _, result in done:
                    return result
        except BaseException:
            # Half of an answer may be on its way.
            self.close()
            raise

    @property
    def ready(self) -> bool:
        """Whether there is a process that has started well."""
        return self._process is not None and self._process.ready

    def _running(self) -> WorkerProcess[J, R]:
        if self._process is None or not self._process.alive:
            self.close()
            self._process = WorkerProcess(
                self._recipe,
                self._resources,
                environment=self._environment,
                starting=self._starting,
            )
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop()
            self._process = None
