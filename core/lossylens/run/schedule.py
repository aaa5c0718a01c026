"""In which order, and in which portions, images are given to worker processes.

What takes longest comes first, so that at the end all workers are busy with little
and none is left with much: codecs from the slowest to the fastest, images from the
largest to the smallest.  How slow a codec is, is found out on the way.  A chunk is
to take a fraction of a second: long against the cost of sending it, short against
the whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lossylens.grid.plan import CodecLevel
from lossylens.store.records import Picture

#: Seconds that a chunk is to take, at the very end as well, and the most images in one.
_CHUNK = 0.25
_LAST_CHUNK = 0.01
_MOST = 64


@dataclass(frozen=True, slots=True)
class ImageWork:
    """An image and the levels of one codec at which it is to be encoded."""

    picture: Picture
    codecs: tuple[CodecLevel, ...]

    @property
    def plugin(self) -> str:
        """Place of the codec in the configuration."""
        return self.codecs[0].choice.where

    @property
    def pixels(self) -> int:
        """Pixels to be encoded, at all levels together."""
        return self.picture.width * self.picture.height * len(self.codecs)

    def split(self, levels: int) -> tuple[ImageWork, ImageWork]:
        """Return the first so many levels, and the rest."""
        return (
            replace(self, codecs=self.codecs[:levels]),
            replace(self, codecs=self.codecs[levels:]),
        )


class Schedule:
    """All works, for several workers.

    Args:
        backlogs: the works of each codec.
        workers: how many processes there are.
    """

    def __init__(self, backlogs: Sequence[Sequence[ImageWork]], workers: int) -> None:
        self._backlogs = {works[0].plugin: _Backlog(works) for works in backlogs}
        self._workers = workers

    def __iter__(self) -> Iterator[list[ImageWork]]:
        """Yield chunks; which ones depends on what has been learnt until then."""
        # One small image of each codec tells how slow it is.
        for backlog in self._backlogs.values():
            yield [backlog.take_smallest()]
        while waiting := [each for each in self._backlogs.values() if each.works]:
            rest = sum(each.pixels * each.seconds_per_pixel for each in waiting)
            longest = max(waiting, key=lambda each: each.seconds_per_pixel)
            yield longest.take(max(_LAST_CHUNK, min(_CHUNK, rest / (2 * self._workers))))

    def learn(self, plugin: str, pixels: int, seconds: float) -> None:
        """Take note of how long so many pixels took at one level."""
        backlog = self._backlogs[plugin]
        backlog.seconds += seconds
        backlog.pixels_done += pixels


class _Backlog:
    """The works of one codec, and how fast it is.

    Attributes:
        works: largest first.
        pixels: of all works.
        pixels_done, seconds: what has been learnt.
    """

    def __init__(self, works: Sequence[ImageWork]) -> None:
        self.works = deque(sorted(works, key=lambda work: work.pixels, reverse=True))
        self.pixels = sum(work.pixels for work in works)
        self.pixels_done = 0
        self.seconds = 0.0

    @property
    def seconds_per_pixel(self) -> float:
        """Zero as long as it is not known."""
        return self.seconds / self.pixels_done if self.pixels_done else 0.0

    def take_smallest(self) -> ImageWork:
        """Return the smallest image at one level."""
        first, rest = self.works.pop().split(1)
        if rest.codecs:
            self.works.append(rest)
        self.pixels -= first.pixels
        return first

    def take(self, seconds: float) -> list[ImageWork]:
        """Return works, at least one at one level, that take about so many seconds."""
        # Nothing is known yet: one at a time.
        room = seconds / self.seconds_per_pixel if self.seconds_per_pixel else 0.0
        chunk: list[ImageWork] = []
        while self.works and len(chunk) < _MOST:
            work = self.works[0]
            levels = min(len(work.codecs), int(room * len(work.codecs) / work.pixels))
            if levels < 1 and chunk:
                break
            first, rest = work.split(max(1, levels))
            self.works.popleft()
            if rest.codecs:
                self.works.appendleft(rest)
            chunk.append(first)
            room -= first.pixels
        self.pixels -= sum(work.pixels for work in chunk)
        return chunk
