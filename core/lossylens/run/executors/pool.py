"""Workers and the jobs that they have, wherever they are.

Jobs travel in chunks, because sending one costs as much as a small picture does,
and come back one by one, because what is done should be on disk.  A worker whose
chunks are short has the next one already when it is done with one.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from lossylens.executor import J, R, Recipe
from lossylens.failure import Failure

#: A worker whose chunks take less than so many seconds has the next one waiting, so that it
#: is not idle while the driver does something else; longer ones could only wait there while
#: another worker may be idle.
_SHORT = 1.0


class Worker(ABC, Generic[J, R]):
    """What does jobs, in their order.

    Attributes:
        recipe: what it does.
        started: whether it is there; another may have its jobs until then.
    """

    started = True

    def __init__(self, recipe: Recipe[J, R]) -> None:
        self.recipe = recipe
        self._chunks: deque[deque[J]] = deque()
        self._given = 0.0
        self._quick = False

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

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether it is gone for good; the jobs that it had are then given back."""

    @property
    def alive(self) -> bool:
        """Whether it can be given jobs."""
        return not self.ended

    def _take_on(self, chunk: Sequence[J]) -> deque[J]:
        """Note jobs as its own; return them."""
        if not self._chunks:
            self._given = time.monotonic()
        self._chunks.append(deque(chunk))
        return self._chunks[-1]

    def _next_job(self) -> J:
        """Return the job that was answered and forget it."""
        job = self._chunks[0].popleft()
        if not self._chunks[0]:
            now = time.monotonic()
            self._quick, self._given = now - self._given < _SHORT, now
            self._chunks.popleft()
        return job

    def give_back(self) -> list[list[J]]:
        """Return the jobs that it will not do, in chunks, and forget them."""
        chunks = [list(chunk) for chunk in self._chunks]
        self._chunks.clear()
        return chunks

    @abstractmethod
    def give(self, chunk: Sequence[J]) -> None:
        """Hand over jobs."""

    @abstractmethod
    def take(self) -> list[tuple[J, R | Failure]]:
        """Return what the next message says is done; waits for it.

        Raises:
            LossylensError: no job can be done.
        """

    @abstractmethod
    def check(self) -> list[tuple[J, R | Failure]]:
        """Return the jobs that have failed because a limit is passed."""

    @abstractmethod
    def stop(self) -> None:
        """End it and all that it has started."""


W = TypeVar("W", bound=Worker[Any, Any])


class Pool(Generic[W]):
    """The workers of one recipe.

    Args:
        workers: that are there already.
        most: says how many there may be now.
        start: makes another, given those that there are.
        wait: waits a while; returns those of some workers that have messages.

    Attributes:
        workers: that are left when the jobs are done.
    """

    def __init__(
        self,
        workers: list[W],
        most: Callable[[], int],
        start: Callable[[Sequence[W]], W],
        wait: Callable[[Sequence[W]], Iterable[W]],
    ) -> None:
        self.workers = workers
        self._most, self._start, self._wait = most, start, wait
        self._again: deque[Sequence[Any]] = deque()
        self._exhausted = False

    def run(self, supply: Iterator[Sequence[Any]]) -> Iterator[tuple[Any, Any]]:
        """Yield the jobs of *supply* with their results."""
        while True:
            done: list[tuple[Any, Any]] = []
            try:
                for worker in self._wait([each for each in self.workers if each.busy]):
                    done += worker.take()
                for worker in self.workers:
                    done += worker.check()
                    if worker.ended:
                        self._again.extend(worker.give_back())
                self.workers = [worker for worker in self.workers if not worker.ended]
                # Before the results are dealt with, so that no worker waits.
                self._feed(supply)
            finally:
                yield from done
            if self._exhausted and not any(worker.busy for worker in self.workers):
                return

    def _feed(self, supply: Iterator[Sequence[Any]]) -> None:
        """Give every worker that can do with more a chunk, those without any first."""
        while True:
            idle = next((worker for worker in self.workers if not worker.busy), None)
            hungry = idle
            if hungry is None and len(self.workers) >= self._most():
                hungry = next(filter(self._short_of_work, self.workers), None)
                if hungry is None:
                    return
            chunk = self._next_chunk(supply, idle)
            self._exhausted = chunk is None
            if chunk is None:
                return
            if hungry is None:
                hungry = self._start(self.workers)
                self.workers.append(hungry)
            hungry.give(chunk)

    def _next_chunk(self, supply: Iterator[Sequence[Any]], idle: W | None) -> Sequence[Any] | None:
        """Return what comes next: what a lost worker had, what is new, what waits for a start."""
        chunk = self._again.popleft() if self._again else next(supply, None)
        if chunk is None and idle is not None and idle.started:
            late = next((each for each in self.workers if each.busy and not each.started), None)
            if late is not None:
                self._again.extend(late.give_back())
                late.stop()
                self.workers.remove(late)
                chunk = self._again.popleft()
        return chunk

    def _short_of_work(self, worker: W) -> bool:
        # A worker that is alone can as well have the next chunk at once.
        return worker.short_of_work or (self._most() == 1 and not worker.has_two)
