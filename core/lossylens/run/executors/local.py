"""Workers on this machine: processes."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from lossylens.executor import Executor, J, R, Recipe, Resources
from lossylens.failure import Failure
from lossylens.run.executors.pool import Pool
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
        each = _gpus(resources, devices)
        most = _most(resources, len(devices), each)

        def start(alive: Sequence[WorkerProcess[Any, Any]]) -> WorkerProcess[Any, Any]:
            return WorkerProcess(recipe, resources, _free(devices, alive, each))

        pool = Pool(self._take_kept(recipe), lambda: most, start, _answering)
        whole = False
        try:
            yield from pool.run(iter(chunks))
            whole = True
        finally:
            if whole and resources.kept:
                self._kept += pool.workers
            else:
                _stop(pool.workers)

    def room(self, resources: Resources) -> int:
        """Return how many workers there would be."""
        devices = _devices() if resources.gpus else []
        return _most(resources, len(devices), _gpus(resources, devices))

    def _take_kept(self, recipe: Recipe[J, R]) -> list[WorkerProcess[J, R]]:
        """Return the workers that an earlier call has left; end those that do something else."""
        kept, self._kept = self._kept, []
        _stop([each for each in kept if each.recipe != recipe or not each.alive])
        return [each for each in kept if each.recipe == recipe and each.alive]

    def release(self) -> None:
        """End the workers that are kept."""
        kept, self._kept = self._kept, []
        _stop(kept)


def _gpus(resources: Resources, devices: Sequence[str]) -> float:
    """Return how many GPUs each worker gets: more of smaller ones than it asks for.

    A share of one, or whole ones.
    """
    smallest = _smallest_memory() if devices and resources.gpu_memory else 0
    found = resources.gpus * max(1.0, resources.gpu_memory / smallest if smallest else 1.0)
    return found if found <= 1 else math.ceil(found)


def _most(resources: Resources, devices: int, gpus: float) -> int:
    """Return how many workers this machine has room for, with so many GPUs each."""
    most = resources.workers
    if gpus:
        # One worker for each, or one that has to do with what there is.
        room = max(1, int(devices / gpus))
        return room if most is None else min(most, room)
    if most is not None:
        return most
    # What has as many threads as it likes has them all.
    return 1 if resources.threads is None else max(1, _cpus() // resources.threads)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _stop(workers: Sequence[WorkerProcess[Any, Any]]) -> None:
    for worker in workers:  # so that they end together
        worker.ask()
    for worker in workers:
        worker.stop()


def _answering(busy: Sequence[WorkerProcess[Any, Any]]) -> list[WorkerProcess[Any, Any]]:
    """Wait for a while until workers have messages; return them."""
    pipes = {worker.pipe: worker for worker in busy}
    ready: list[Any] = wait(list(pipes), TICK) if pipes else []
    return [pipes[pipe] for pipe in ready]


def _free(
    devices: Sequence[str], alive: Iterable[WorkerProcess[Any, Any]], count: float
) -> tuple[str, ...]:
    """Return the devices of another worker: those that fewest have."""
    taken = Counter(device for worker in alive for device in worker.devices)
    return tuple(sorted(devices, key=lambda device: taken[device])[: math.ceil(count)])


def _devices() -> list[str]:
    """Return the CUDA devices that may be used, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [each.strip() for each in visible.split(",") if each.strip()]
    return [str(number) for number, _ in enumerate(_told("--list-gpus"))]


def _smallest_memory() -> int:
    """Return the bytes of the smallest GPU; 0 where that is not told."""
    told = _told("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    return 2**20 * min((int(each) for each in told if each.strip().isdigit()), default=0)


def _told(*arguments: str) -> list[str]:
    """Return the lines that NVIDIA's program says, none where there is no such program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.splitlines()
