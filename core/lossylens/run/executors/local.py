"""Workers on this machine: a pool of processes.

Jobs travel in chunks, because sending one costs as much as a small picture does,
and come back one by one, because what is done should be on disk.  A worker whose
chunks are short has the next one already when it is done with one.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from typing import Any

from lossylens.executor import Executor, J, R, Recipe, Resources
from lossylens.failure import Failure
from lossylens.run.executors.process import TICK, WorkerProcess


class LocalExecutor(Executor[Any, Any]):
    """Processes of this machine, started when there is work for them."""

    shares_folder = True

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._kept: list[WorkerProcess[Any, Any]] = []

    def run(
        self, recipe: Recipe[J, R], chunks: Iterable[Sequence[J]], resources: Resources
    ) -> Iterator[tuple[J, R | Failure]]:
        """Yield each job with its result; see :class:`~lossylens.executor.Executor`.

        Each worker is a process, so that a crash is one job's.
        """
        devices = _devices() if resources.gpus else []
        if resources.gpus:
            # One worker for each, or one that does without.
            most = max(1, int(len(devices) / resources.gpus))
            resources = replace(resources, workers=min(resources.workers, most))
        pool = _Pool(recipe, resources, self._take_kept(recipe), devices)
        whole = False
        try:
            yield from pool.run(iter(chunks))
            whole = True
        finally:
            if whole and resources.kept:
                self._kept += pool.workers
            else:
                _stop(pool.workers)

    def _take_kept(self, recipe: Recipe[J, R]) -> list[WorkerProcess[J, R]]:
        """Return the workers that an earlier call has left; end those that do something else."""
        kept, self._kept = self._kept, []
        _stop([each for each in kept if each.recipe != recipe or not each.alive])
        return [each for each in kept if each.recipe == recipe and each.alive]

    def release(self) -> None:
        """End the workers that are kept."""
        kept, self._kept = self._kept, []
        _stop(kept)


def _stop(workers: Iterable[WorkerProcess[Any, Any]]) -> None:
    for worker in workers:
        worker.stop()


class _Pool:
    """The workers of one recipe."""

    def __init__(
        self,
        recipe: Recipe[Any, Any],
        resources: Resources,
        workers: list[WorkerProcess[Any, Any]],
        devices: Sequence[str],
    ) -> None:
        self._recipe, self._resources = recipe, resources
        self.workers = workers
        self._devices = devices
        self._exhausted = False

    def run(self, supply: Iterator[Sequence[Any]]) -> Iterator[tuple[Any, Any]]:
        """Yield the jobs of *supply* with their results."""
        while True:
            done: list[tuple[Any, Any]] = []
            try:
                for worker in self._answering():
                    done += worker.take()
                for worker in self.workers:
                    done += worker.check()
                # Before the results are dealt with, so that no worker waits.
                self._feed(supply)
            finally:
                yield from done
            self.workers = [worker for worker in self.workers if not worker.ended]
            if self._exhausted and not any(worker.busy for worker in self.workers):
                return

    def _answering(self) -> list[WorkerProcess[Any, Any]]:
        """Wait for a while until workers have messages; return them."""
        busy = {worker.pipe: worker for worker in self.workers if worker.busy}
        ready: list[Any] = wait(list(busy), TICK) if busy else []
        return [busy[pipe] for pipe in ready]

    def _feed(self, supply: Iterator[Sequence[Any]]) -> None:
        """Give every worker that can do with more a chunk, those without any first."""
        while not self._exhausted:
            alive = [worker for worker in self.workers if not worker.ended]
            hungry = next((worker for worker in alive if not worker.busy), None)
            if hungry is None and len(alive) >= self._resources.workers:
                hungry = next(filter(self._short_of_work, alive), None)
                if hungry is None:
                    return
            chunk = next(supply, None)
            if chunk is None:
                self._exhausted = True
                for worker in alive:
                    worker.end()
                return
            if hungry is None:
                hungry = WorkerProcess(self._recipe, self._resources, self._free_devices(alive))
                self.workers.append(hungry)
            hungry.give(chunk)

    def _free_devices(self, alive: Iterable[WorkerProcess[Any, Any]]) -> tuple[str, ...]:
        """Return the devices of another worker."""
        taken = {device for worker in alive for device in worker.devices}
        free = [device for device in self._devices if device not in taken]
        return tuple(free[: math.ceil(self._resources.gpus)])

    def _short_of_work(self, worker: WorkerProcess[Any, Any]) -> bool:
        # A worker that is alone can as well have the next chunk at once.
        return worker.short_of_work or (self._resources.workers == 1 and not worker.has_two)


def _devices() -> list[str]:
    """Return the CUDA devices that may be used, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [each.strip() for each in visible.split(",") if each.strip()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)  # noqa: S603
    return [str(number) for number, _ in enumerate(listed.stdout.splitlines())]
