"""A worker on some node, as the driver sees it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

import ray
from lossylens.errors import LossylensError, TransientError, describe
from lossylens.executor import J, R, Recipe, Resources
from lossylens.failure import Failure
from lossylens.run.executors.pool import Worker
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayError, RayTaskError

from lossylens_executor_ray.cluster import Cluster
from lossylens_executor_ray.node_worker import NodeWorker, Report
from lossylens_executor_ray.parcels import Packing

#: Seconds between two looks at whether the actor has taken its orders.
_LOOK = 1.0

# Ray's type of it knows classes alone.
_remote: Any = ray.remote
_Actor = _remote(concurrency_groups={"give": 1, "take": 1}, max_restarts=0)(NodeWorker)


class RemoteWorker(Worker[J, R]):
    """An actor and the jobs that it has.

    Args:
        recipe: what it does.
        resources: its limits.
        wanted: what Ray is to set aside for it.
        cluster: where it is.
        images: folder on the nodes; see :class:`~lossylens_executor_ray.parcels.NodeImages`.
    """

    def __init__(
        self,
        recipe: Recipe[J, R],
        resources: Resources,
        wanted: dict[str, Any],
        cluster: Cluster,
        images: str | None,
    ) -> None:
        super().__init__(recipe)
        self.started = False
        self._cluster = cluster
        self._node: str | None = None
        self._begun: int | None = None
        self._ended = False
        self._number = 0
        self._orders: list[Any] = []
        self._looked = time.monotonic()
        self._packing = Packing(self._put, self._is_there)
        self._travelling: dict[str, Any] = {}
        self._actor: Any = _Actor.options(**wanted).remote(pickle.dumps(recipe), resources, images)
        self.report = self._take()

    @property
    def ended(self) -> bool:
        """Whether the actor is gone."""
        return self._ended

    def _take(self) -> Any:
        """Ask for the next report; the answer is there when something has happened."""
        return self._actor.take.options(concurrency_group="take").remote()

    def give(self, chunk: Sequence[J]) -> None:
        """Hand over jobs."""
        # What of an earlier chunk is on its way is asked for by no other.
        self._travelling = {}
        try:
            parcel = self._packing.pack(list(self._take_on(chunk)))
        except (ObjectStoreFullError, OutOfDiskError) as error:
            raise TransientError(
                "Ray's object store on this machine is full, and so is the disk that it spills"
                " to; what was finished is kept: free some, or start Ray with a larger"
                " --object-store-memory, and run the same command again"
            ) from error
        order = self._actor.give.options(concurrency_group="give")
        self._orders.append(order.remote(self._number, parcel, self._travelling))
        self._number += 1

    def _is_there(self, sha256: str) -> bool:
        """Whether content need not be read: it is on the node, or in the object store."""
        if self._cluster.has(self._node, sha256):
            return True
        reference = self._cluster.reference(sha256)
        if reference is not None:
            self._travelling[sha256] = reference
        return reference is not None

    def _put(self, sha256: str, data: bytes) -> None:
        self._travelling[sha256] = self._cluster.put(sha256, data)

    def take(self) -> list[tuple[J, R | Failure]]:
        """Return what the next report says is done; waits for it.

        Raises:
            LossylensError: no job can be done.
        """
        try:
            report: Report = ray.get(self.report)
        except RayTaskError as error:
            raise self._trouble(error) from error
        except RayError as error:
            return self._gone(error)
        if report.stop is not None:
            text, trace = report.stop
            raise LossylensError(text) from (RuntimeError(trace) if trace else None)
        if report.lost:
            # Somebody has emptied the node's folder.
            self._cluster.forget(report.node, report.lost)
            self.stop()
            return []
        self.report = self._take()
        self.started = True
        self._node, self._begun = report.node, report.begun
        self._cluster.keep(report.node, report.kept)
        self._cluster.failed_starts = 0
        return [(self._next_job(), result) for result in report.results]

    def check(self) -> list[tuple[J, R | Failure]]:
        """Look at whether the actor has taken its orders; it keeps to the limits itself.

        An order that is lost, or fails, is in no report: its jobs would be waited for for ever.

        Raises:
            LossylensError: it could not take one.
        """
        now = time.monotonic()
        if self._ended or not self._orders or now - self._looked < _LOOK:
            return []
        self._looked = now
        done, self._orders = ray.wait(
            self._orders, num_returns=len(self._orders), timeout=0, fetch_local=False
        )
        try:
            ray.get(done)
        except RayTaskError as error:
            raise self._trouble(error) from error
        except RayError as error:
            return self._gone(error)
        return []

    def _trouble(self, error: RayTaskError) -> LossylensError:
        cause = error.cause
        told = describe(cause) if isinstance(cause, Exception) else _first_line(error)
        node = self._cluster.name(self._node)
        return LossylensError(f"{self.recipe.title} cannot work on {node}: {told}")

    def _gone(self, error: RayError) -> list[tuple[J, R | Failure]]:
        """End a worker that is lost; its jobs are done again, or fail if they may be to blame."""
        # It may live, cut off, and would keep what Ray has set aside for it.
        self.stop()
        if not self.started:
            self._cluster.note_failed_start(f"{self.recipe.title}: {_told(error)}")
        if self._node is None or not self._cluster.is_alive(self._node):
            # Nodes come and go.
            return []
        count = max(1, self._begun or 1)
        jobs = [job for chunk in self._chunks for job in chunk]
        lost: list[tuple[J, R | Failure]] = []
        if any(self._cluster.has_killed(job) for job in islice(jobs, count)):
            failure = Failure(f"its worker was killed twice: {_first_line(error)}", transient=True)
            lost = [(self._next_job(), failure) for _ in jobs[:count]]
        else:
            self._cluster.note_killing(jobs[:count])
        return lost

    def stop(self) -> None:
        """End the actor and all that it has started."""
        self._ended = True
        ray.kill(self._actor)


def _told(error: BaseException) -> str:
    """Return what an error says: its first line and, where the actor raised it, the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "creation task" in str(error) and len(lines) > 1:
        return f"{lines[0]} {lines[-1]}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
