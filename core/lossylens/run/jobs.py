"""Images at levels of codecs, one by one, in workers.

What encoding, measuring and answering have in common: a job says all that a worker needs,
which keeps the codecs that it has built and the image that it has read for the next one.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any, Generic, Protocol, Self, TypeVar

from PIL.Image import Image

from lossylens.codec import Codec, Level, Square
from lossylens.errors import DataError
from lossylens.executor import Begin, Executor, Recipe, Resources
from lossylens.failure import Failure, attempt
from lossylens.grid.plan import CodecLevel
from lossylens.images.pixels import source_image
from lossylens.registry.import_paths import import_object
from lossylens.run.schedule import ImageWork, Schedule
from lossylens.store.records import Picture


@dataclass(frozen=True)
class CodecRecipe:
    """A codec at a level, as a worker builds it.

    Attributes:
        where: place of the codec in the configuration.
        name: of the codec.
        key: of the codec and level.
        factory, level, options: to build the codec from.
        batch_images: how many images of like size it wants at once.
        square: what it is given in place of images, if anything.
    """

    where: str
    name: str
    key: str
    factory: str
    level: Level
    options: Any
    batch_images: int = 1
    square: Square | None = None

    @classmethod
    def of(cls, codec: CodecLevel) -> CodecRecipe:
        """Return the recipe of *codec*."""
        return cls(
            where=codec.choice.where,
            name=codec.choice.spec.name,
            key=codec.part.key,
            factory=codec.choice.spec.factory,
            level=codec.level,
            options=codec.choice.options,
            batch_images=codec.batch_images,
            square=codec.point.square,
        )

    def built(self) -> Codec:
        """Return the codec, which this process builds once while the codec's turn lasts."""
        levels = _built(self.where)
        if self.key not in levels:
            levels[self.key] = import_object(self.factory)(self.level, self.options)
        return levels[self.key]


@dataclass(frozen=True)
class CodecJob:
    """An image at one level of a codec.

    Attributes:
        codec: at its level.
        picture: the original image.
        parity: see :mod:`lossylens.images.pixels`.
    """

    codec: CodecRecipe
    picture: Picture
    parity: bool

    @classmethod
    def of(cls, codec: CodecLevel, picture: Picture, parity: bool, **particular: Any) -> Self:
        """Return the job of *codec* and *picture*; *particular* is what else *cls* holds."""
        return cls(codec=CodecRecipe.of(codec), picture=picture, parity=parity, **particular)

    @property
    def pixels(self) -> int:
        """Of all its images."""
        return self.picture.width * self.picture.height

    def original(self) -> Image:
        """Return the image as it is coded, which is kept until another is asked for."""
        return _original(self.picture, self.parity, self.codec.square)


class Timed(Protocol):
    """The result of a job."""

    @property
    def spent(self) -> float:
        """Seconds of the whole job, such as reading the image."""


J = TypeVar("J", bound=CodecJob)
R = TypeVar("R", bound=Timed)


A = TypeVar("A")
T = TypeVar("T")
B = TypeVar("B")


@dataclass(frozen=True)
class JobByJob(Generic[A, B]):
    """A recipe of workers that call a function for each job.

    Attributes:
        function: of a module, which is imported in the worker.
        title: see :class:`~lossylens.executor.Recipe`.
    """

    function: Callable[[A], B]
    title: str

    def start(self) -> Callable[[Iterator[A], Begin], Generator[B | Failure, None, None]]:
        """Return what does the work."""
        return self._work

    def _work(self, jobs: Iterator[A], begin: Begin) -> Generator[B | Failure, None, None]:
        for job in jobs:
            yield attempt(self.function, job)


def backlogs(
    codecs: Iterable[CodecLevel],
    pictures: Iterable[Picture],
    is_pending: Callable[[str, str], bool],
) -> list[list[ImageWork]]:
    """Return images with the levels at which they are pending, apart for each codec.

    Args:
        codecs: with their levels.
        pictures: the images.
        is_pending: is given the key of codec and level, and the hash of an image.
    """
    pictures = list(pictures)
    encoding = [codec for codec in codecs if codec.encodes]
    found = []
    for _, group in groupby(encoding, lambda codec: codec.choice.where):
        levels = list(group)
        works = []
        # Most images have the same levels before them, of which one tuple is enough.
        tuples: dict[tuple[str, ...], tuple[CodecLevel, ...]] = {}
        for picture in pictures:
            due = [each for each in levels if is_pending(each.part.key, picture.sha256)]
            if due:
                keys = tuple(each.part.key for each in due)
                works.append(ImageWork(picture, tuples.setdefault(keys, tuple(due))))
        if works:
            found.append(works)
    return found


def count_images(backlogs: Iterable[Iterable[ImageWork]]) -> int:
    """Return the number of images, counted at each level anew."""
    return sum(len(work.codecs) for works in backlogs for work in works)


@contextlib.contextmanager
def closing_workers(results: Iterator[T]) -> Iterator[Iterator[T]]:
    """Take results from an executor, and let no worker go on when no more are taken.

    An error that is kept keeps what it has gone through, the executor's generator among it.
    """
    try:
        yield results
    finally:
        if isinstance(results, Generator):
            results.close()


def run_works(
    executor: Executor[Any, Any],
    recipe: Recipe[J, R],
    jobs: Callable[[Sequence[ImageWork]], Sequence[J]],
    backlogs: Sequence[Sequence[ImageWork]],
    resources: Resources,
) -> Iterator[tuple[J, R | Failure]]:
    """Have the jobs of all works done; yield each with its result as it is done.

    Args:
        executor: where.
        recipe: of the workers.
        jobs: returns the jobs of some works.
        backlogs: the works of each codec, none empty.
        resources: what the workers may take.

    Raises:
        LossylensError: the work cannot be done at all.
    """
    workers = min(executor.room(resources), count_images(backlogs))
    if executor.shares_folder:
        # Elsewhere there may be more room later.
        resources = replace(resources, workers=workers)
    schedule = Schedule(backlogs, workers)

    def sent(work: ImageWork) -> ImageWork:
        return replace(work, picture=portable(work.picture, executor))

    chunks = (jobs([sent(work) for work in chunk]) for chunk in schedule)
    with closing_workers(executor.run(recipe, chunks, resources)) as done:
        for job, result in done:
            if not isinstance(result, Failure):
                schedule.learn(job.codec.where, job.pixels, result.spent)
            yield job, result


def forget_original() -> None:
    """Free the image that :meth:`CodecJob.original` keeps."""
    _original.cache_clear()


@lru_cache(maxsize=1)
def _original(picture: Picture, parity: bool, square: Square | None) -> Image:
    return source_image(picture.content(), parity=parity, square=square)


@lru_cache(maxsize=1)
def _built(where: str) -> dict[str, Codec]:
    """Return the levels built in this process of the codec whose turn it is, by key."""
    return {}


def portable(picture: Picture, executor: Executor[Any, Any]) -> Picture:
    """Return *picture* with a reader that works in a worker of *executor*.

    Most read from a file, which the worker does itself where it sees it; else the image is
    sent.
    """
    if executor.shares_folder and not isinstance(attempt(pickle.dumps, picture.read), Failure):
        return picture
    return replace(picture, read=Carried(picture.sha256, picture.read))


@dataclass(frozen=True)
class Carried:
    """Reads content that travels with a job, as :class:`CarriedContent` if nothing better is done.

    Attributes:
        sha256: of the content.
        read: returns it; stays where it is.
    """

    sha256: str
    read: Callable[[], bytes]

    def __call__(self) -> bytes:
        """Read the content."""
        return self.read()

    def content(self) -> CarriedContent:
        """Return what travels."""
        data = attempt(Carried.__call__, self)
        return (
            CarriedContent(b"", data.reason) if isinstance(data, Failure) else CarriedContent(data)
        )

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        content = self.content()
        return CarriedContent, (content.data, content.problem)


@dataclass(frozen=True)
class CarriedContent:
    """Reads content that has been read already, or could not be."""

    data: bytes
    problem: str = ""

    def __call__(self) -> bytes:
        """Return the content.

        Raises:
            DataError: it could not be read.
        """
        if self.problem:
            raise DataError(self.problem)
        return self.data
