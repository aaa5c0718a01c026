"""What workers on nodes do in tests of the executor ``ray``; nodes find it by their path."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


def hashed(job: Callable[[], bytes]) -> str:
    return hashlib.sha256(job()).hexdigest()


def measured(job: str) -> int:
    if job == "hold":
        # Without letting other threads run, so that nothing is taken in either.
        ctypes.PyDLL(None).sleep(60)
    return len(job)


class PassedOnce:
    """A job that reaches the actor, and cannot be passed on to the process below it."""

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return Passed, ()


class Passed:
    def __reduce__(self) -> tuple[Any, tuple[()]]:
        raise ValueError("it can be passed once")


@dataclass(frozen=True)
class InThrees:
    """A recipe that does three jobs at once, and fewer when there are no more."""

    title: str = "in threes"

    def start(self) -> Any:
        return self._work

    def _work(self, jobs: Iterator[Any], begin: Any) -> Iterator[Any]:
        waiting: list[Any] = []
        for job in jobs:
            waiting.append(job)
            if len(waiting) == 3:
                begin(3)
                yield from waiting
                waiting.clear()
        begin(len(waiting))
        yield from waiting
