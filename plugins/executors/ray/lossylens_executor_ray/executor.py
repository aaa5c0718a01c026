"""The executor: actors on the nodes of a cluster, in place of processes on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from lossylens.errors import ConfigError
from lossylens.executor import Executor, J, Need, R, Recipe, Resources
from lossylens.failure import Failure
from lossylens.run.executors.pool import Pool
from lossylens.run.executors.process import TICK

from lossylens_executor_ray.cluster import Cluster
from lossylens_executor_ray.plugin import PlacementOptions
from lossylens_executor_ray.remote_worker import RemoteWorker


class RayExecutor(Executor[Any, Any]):
    """Actors that keep codec or model, placed by Ray; the driver alone writes the store."""

    shares_folder = False

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._kept: list[RemoteWorker[Any, Any]] = []

    @cached_property
    def _cluster(self) -> Cluster:
        return Cluster(self.options.address)

    def prepare(
        self, needs: Sequence[Need], distributions: Mapping[str, str], cache: Path | None
    ) -> None:
        """Make sure that the cluster is there, has room, and is alike on all its nodes."""
        known = [need.where for need in needs]
        for place in self.options.plugins:
            if place not in known:
                raise ConfigError(
                    f"run.executor.plugins: {place!r} is none of {', '.join(dict.fromkeys(known))}"
                )
        wanted = [(need, self._wanted(need.resources, need.where)) for need in needs]
        self._cluster.check(wanted, distributions, cache, self.options.patience)

    def _placement(self, plugin: str) -> PlacementOptions:
        found: PlacementOptions = self.options.plugins.get(plugin, PlacementOptions())
        return found

    def _wanted(self, resources: Resources, plugin: str) -> dict[str, Any]:
        """Return what Ray is to set aside for a worker."""
        placement = self._placement(plugin)
        return {
            "num_cpus": 1 if placement.cpus is None else placement.cpus,
            "num_gpus": resources.gpus if placement.gpus is None else placement.gpus,
            "memory": None if placement.memory is None else int(1e9 * placement.memory),
        }

    def room(self, resources: Resources) -> int:
        """Return how many workers there would be now."""
        room = max(1, self._cluster.room(self._wanted(resources, resources.plugin)))
        bounds = (resources.workers, self._placement(resources.plugin).workers)
        return min([room, *(each for each in bounds if each is not None)])

    def run(
        self, recipe: Recipe[J, R], chunks: Iterable[Sequence[J]], resources: Resources
    ) -> Iterator[tuple[J, R | Failure]]:
        """Yield each job with its result; see :class:`~lossylens.executor.Executor`."""
        wanted = self._wanted(resources, resources.plugin)

        def start(alive: Sequence[RemoteWorker[Any, Any]]) -> RemoteWorker[Any, Any]:
            return RemoteWorker(recipe, resources, wanted, self._cluster, self.options.images)

        pool = Pool(self._take_kept(recipe), lambda: self.room(resources), start, self._wait)
        whole = False
        try:
            yield from pool.run(iter(chunks))
            whole = True
        finally:
            if whole and resources.kept:
                self._kept += pool.workers
            else:
                _stop(pool.workers)

    def _wait(self, busy: Sequence[RemoteWorker[Any, Any]]) -> list[RemoteWorker[Any, Any]]:
        """Wait for a while until workers report; return those that have."""
        if not busy:
            return []
        workers = {worker.report: worker for worker in busy}
        ready, waiting = ray.wait(list(workers), timeout=TICK)
        if ready and waiting:
            # At most one is told at first.
            more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            ready += more
        if not ready:
            self._cluster.check_own_node()
        return [workers[report] for report in ready]

    def _take_kept(self, recipe: Recipe[J, R]) -> list[RemoteWorker[J, R]]:
        kept, self._kept = self._kept, []
        _stop([each for each in kept if each.recipe != recipe])
        return [each for each in kept if each.recipe == recipe]

    def release(self) -> None:
        """End the workers that are kept."""
        kept, self._kept = self._kept, []
        _stop(kept)

    def close(self) -> None:
        """End all workers and leave the cluster."""
        if "_cluster" in vars(self):
            self.release()
            ray.shutdown()


def _stop(workers: Iterable[RemoteWorker[Any, Any]]) -> None:
    for worker in workers:
        worker.stop()
