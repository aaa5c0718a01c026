"""Images at levels of codecs, one by one, in this process or in workers.

What encoding and measuring have in common: a job says all that a worker process needs,
which keeps the codecs that it has built and the image that it has read for the next one.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any, Protocol, Self, TypeVar

from PIL.Image import Image

from lossylens.codec import Codec, Level
from lossylens.collect import Picture
from lossylens.errors import DataError
from lossylens.executors.local import run_jobs
from lossylens.failure import Failure, attempt
from lossylens.loading import import_object
from lossylens.pixels import source_image
from lossylens.plan import CodecLevel, Plan
from lossylens.schedule import Schedule, Work


@dataclass(frozen=True)
class CodecJob:
    """An image at one level of a codec; all that a worker process needs.

    Attributes:
        plugin: place of the codec in the configuration.
        codec: key of the codec and level.
        factory, level, options: to build the codec from.
        picture: the original image.
        parity: see :mod:`lossylens.pixels`.
    """

    plugin: str
    codec: str
    factory: str
    level: Level
    options: Any
    picture: Picture
    parity: bool

    @classmethod
    def of(cls, codec: CodecLevel, picture: Picture, parity: bool, **particular: Any) -> Self:
        """Return the job of *codec* and *picture*; *particular* is what else *cls* holds."""
        return cls(
            plugin=codec.choice.where,
            codec=codec.part.key,
            factory=codec.choice.spec.factory,
            level=codec.level,
            options=codec.choice.options,
            picture=picture,
            parity=parity,
            **particular,
        )

    def built_codec(self) -> Codec:
        """Return the codec, which this process builds once."""
        levels = _built(self.plugin)
        if self.codec not in levels:
            levels[self.codec] = import_object(self.factory)(self.level, self.options)
        return levels[self.codec]

    def original(self) -> Image:
        """Return the image, which is kept until another is asked for."""
        return _original(self.picture, self.parity)


class Timed(Protocol):
    """The result of a job."""

    @property
    def spent(self) -> float:
        """Seconds of the whole job, such as reading the image."""


J = TypeVar("J", bound=CodecJob)
R = TypeVar("R", bound=Timed)


def backlogs(
    plan: Plan, pictures: Iterable[Picture], pending: Mapping[str, Iterable[str]]
) -> list[list[Work]]:
    """Return images with the levels at which they are pending, apart for each codec.

    Args:
        plan: the codecs.
        pictures: the images.
        pending: hashes of images, by key of codec and level.
    """
    pictures = list(pictures)
    encoding = [codec for codec in plan.codecs if codec.encodes]
    found = []
    for _, group in groupby(encoding, lambda codec: codec.choice.where):
        levels = list(group)
        works = []
        for picture in pictures:
            codecs = tuple(each for each in levels if picture.sha256 in pending[each.part.key])
            if codecs:
                works.append(Work(picture, codecs))
        if works:
            found.append(works)
    return found


def count_images(backlogs: Iterable[Iterable[Work]]) -> int:
    """Return the number of images, counted at each level anew."""
    return sum(len(work.codecs) for works in backlogs for work in works)


def run_works(
    function: Callable[[J], R],
    jobs: Callable[[Work], Sequence[J]],
    backlogs: Sequence[Sequence[Work]],
    workers: int,
) -> Iterator[tuple[J, R | Failure]]:
    """Run *function* over the jobs of all works; yield each with its result as it is done.

    Args:
        function: see :func:`~lossylens.executors.local.run_jobs`.
        jobs: returns the jobs of a work, one for each level.
        backlogs: the works of each codec, none empty.
        workers: number of processes, at most; 1 is this process.

    Raises:
        LossylensError: *function* raised one that is not about its job alone.
    """
    workers = min(workers, count_images(backlogs))
    schedule = Schedule(backlogs, workers)

    def chunks() -> Iterator[list[J]]:
        if workers > 1:
            for chunk in schedule:
                yield [job for work in chunk for job in jobs(_portable(work))]
            return
        # One worker takes codec by codec, because it has room for the levels of one.
        for works in backlogs:
            yield from map(list, map(jobs, works))

    for job, result in run_jobs(function, chunks(), workers):
        if not isinstance(result, Failure):
            schedule.learn(job.plugin, job.picture, result.spent)
        yield job, result
    # With one worker, they were built here.
    _built.cache_clear()
    _original.cache_clear()


def forget_original() -> None:
    """Free the image that :meth:`CodecJob.original` keeps."""
    _original.cache_clear()


@lru_cache(maxsize=1)
def _original(picture: Picture, parity: bool) -> Image:
    return source_image(picture.content(), parity=parity)


@lru_cache(maxsize=1)
def _built(plugin: str) -> dict[str, Codec]:
    """Return the levels built in this process of the plugin whose turn it is, by key."""
    return {}


def _portable(work: Work) -> Work:
    """Return *work* with a reader of its image that works in another process.

    Most read from a file, which the worker does itself; else the image is sent.
    """
    picture = work.picture
    try:
        pickle.dumps(picture.read)
    except Exception:  # of many kinds
        return replace(work, picture=replace(picture, read=_Content.of(picture)))
    return work


@dataclass(frozen=True)
class _Content:
    """Reads an image that has been read already, or could not be."""

    data: bytes
    problem: str = ""

    @classmethod
    def of(cls, picture: Picture) -> _Content:
        data = attempt(Picture.content, picture)
        return cls(b"", data.reason) if isinstance(data, Failure) else cls(data)

    def __call__(self) -> bytes:
        if self.problem:
            raise DataError(self.problem)
        return self.data
