"""Progress on standard error: bars on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Least seconds between two plain lines of one step, and least share of the time so far: a
#: log of a night has some fifty lines.
_QUIET, _SHARE = 30.0, 0.1

_MINUTE, _HOUR = 60, 3600


def told_spent(usage: Mapping[str, float]) -> str:
    """Return what was spent, in words: money, where it is told, and tokens; ``""`` for nothing."""
    tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    parts = [f"cost {usage['cost']:.4g} so far"] if usage.get("cost") else []
    parts += [f"{tokens / 1000:.3g} k tokens"] if tokens else []
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


class Step(Protocol):
    """A step whose progress is shown."""

    def advance(self, count: int = 1, spent: Mapping[str, float] | None = None) -> None:
        """Say that *count* more items are done, and what they took (:attr:`Answer.usage`)."""


class Unseen:
    """A step whose progress is not shown."""

    def advance(self, count: int = 1, spent: Mapping[str, float] | None = None) -> None:
        """Do nothing."""


@contextmanager
def progress(title: str, total: int | None, unit: str) -> Iterator[Step]:
    """Show the progress of a step while inside.

    Args:
        title: what is done, such as ``"Encoding"``.
        total: how many items there are, or None where that is not known.
        unit: what is counted, in the plural.
    """
    if not sys.stderr.isatty():
        yield from _plain(title, total, unit)
        return
    # rich takes longer to import than most commands take to run.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Bar(bars, bars.add_task(title, total=total, rate="", spent=""), unit)


class _Bar:
    def __init__(self, bars: Progress, task: TaskID, unit: str) -> None:
        self._bars, self._task, self._unit = bars, task, unit
        self._spent: Counter[str] = Counter()

    def advance(self, count: int = 1, spent: Mapping[str, float] | None = None) -> None:
        self._spent.update(spent or {})
        self._bars.advance(self._task, count)
        speed = self._bars.tasks[0].speed
        rate = f"{speed:.3g} {self._unit}/s" if speed else ""
        self._bars.update(self._task, rate=rate, spent=told_spent(self._spent))


def _plain(title: str, total: int | None, unit: str) -> Iterator[Step]:
    step = _Lines(title, total, unit)
    yield step
    step.end()


class _Lines:
    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._spent: Counter[str] = Counter()
        self._start = self._said = time.monotonic()

    def advance(self, count: int = 1, spent: Mapping[str, float] | None = None) -> None:
        self._done += count
        self._spent.update(spent or {})
        now = time.monotonic()
        if now - self._said >= max(_QUIET, _SHARE * (now - self._start)):
            self._say()

    def end(self) -> None:
        self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        seconds = self._said - self._start
        rate = self._done / seconds if seconds > 0 else 0.0
        line = f"{self._title}: {self._done}"
        if self._total is not None:
            line += f" of {self._total}"
        line += f" {self._unit}, {rate:.3g}/s"
        if self._total is not None and self._done < self._total and rate > 0:
            line += f", {_duration((self._total - self._done) / rate)} left"
        if spent := told_spent(self._spent):
            line += f", {spent}"
        print(line, file=sys.stderr, flush=True)
