"""The actor: a worker process on a node, as there is one on the driver's machine.

The actor itself runs nothing of a plugin.  A crash, a time limit or a limit of memory is the
end of the process below it and the failure of a job, worded as everywhere; the end of the
actor is that of its node, or was brought about from outside.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import ray
from lossylens.errors import LossylensError
from lossylens.executor import Resources
from lossylens.run.executors.process import TICK, WorkerProcess

from lossylens_executor_ray.parcels import NodeImages, Parcel, unpack

#: Most results in one message, and seconds that the first waits for others: a message costs
#: processor time of milliseconds on either side.
_MOST = 64
_GATHERING = 0.05


@dataclass(frozen=True)
class Report:
    """What has become of jobs since the last report.

    Attributes:
        node: where the worker is.
        results: of the next jobs, in their order.
        begun: how many of those that follow are worked on together; None for one.
        kept: hashes of content that the node has kept.
        lost: hashes of content that the driver took to be there.
        stop: why no job can be done, and where that was raised.
    """

    node: str
    results: tuple[Any, ...] = ()
    begun: int | None = None
    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    stop: tuple[str, str] | None = None


class NodeWorker:
    """Serves the driver; called by it in two threads, one of which gives and one takes."""

    def __init__(self, recipe: bytes, resources: Resources, images: str | None) -> None:
        self._recipe, self._resources = pickle.loads(recipe), resources  # noqa: S301  of the driver
        self._node = ray.get_runtime_context().get_node_id()
        self._images = NodeImages(images)
        self._lock = threading.Lock()
        self._process = WorkerProcess[Any, Any](self._recipe, resources)
        self._orders: dict[int, Any] = {}
        self._number = 0
        self._kept: list[str] = []
        self._lost: tuple[str, ...] = ()
        self._stopped: tuple[str, str] | None = None
        self._told: tuple[bool, int | None] | None = None

    def give(self, number: int, parcel: Parcel, contents: Mapping[str, Any]) -> None:
        """Take jobs.

        Args:
            number: of the call; calls may come in another order.
            parcel: of the jobs.
            contents: references to large content that the node may lack, by hash.

        Raises:
            Exception: they cannot be taken; the driver looks at what becomes of the call.
        """
        jobs = self._unpacked(parcel, contents)
        with self._lock:
            self._orders[number] = jobs
            while self._number in self._orders and not self._lost:
                jobs = self._orders.pop(self._number)
                self._number += 1
                if self._process.ended:
                    self._process = WorkerProcess[Any, Any](self._recipe, self._resources)
                self._process.give(jobs)

    def _unpacked(self, parcel: Parcel, contents: Mapping[str, Any]) -> Any:
        """Return jobs with their content, from the node or from the driver."""
        found: dict[str, bytes] = {}
        for sha256 in parcel.large:
            data = self._images.get(sha256)
            if data is None and sha256 in contents:
                data = ray.get(contents[sha256])
                if self._images.put(sha256, data):
                    self._kept.append(sha256)
            elif data is not None and sha256 in contents:
                self._kept.append(sha256)
            if data is None:
                self._lost = (*self._lost, sha256)
            else:
                found[sha256] = data
        return None if self._lost else unpack(parcel, found)

    def take(self) -> Report:
        """Return what has happened, as soon as something has."""
        while True:
            if self._stopped or self._lost:
                return self._report()
            if self._process.ended:
                time.sleep(TICK / 10)
                continue
            ready = wait([self._process.pipe], TICK)
            results: list[Any] = []
            with self._lock:
                try:
                    results += self._process.take() if ready else self._process.check()
                    end = time.monotonic() + _GATHERING
                    while results and len(results) < _MOST and self._has_more(end):
                        results += self._process.take()
                except LossylensError as error:
                    self._stopped = (str(error), str(error.__cause__ or ""))
            state = (self._process.ready, self._process.begun)
            if results or self._stopped or state != self._told:
                self._told = state
                return self._report(result for _, result in results)

    def _has_more(self, end: float) -> bool:
        """Whether there is another message of the process, until *end*."""
        patience = max(0.0, end - time.monotonic())
        return self._process.busy and self._process.pipe.poll(patience)

    def _report(self, results: Any = ()) -> Report:
        kept, self._kept = self._kept, []
        return Report(
            self._node,
            tuple(results),
            self._process.begun,
            tuple(kept),
            self._lost,
            self._stopped,
        )
