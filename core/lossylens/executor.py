"""The executor contract: where the work of a run is done.

A run hands out jobs; an executor has workers do them and gives back each job with its
result.  What a worker is made of is a *recipe*, which can be pickled, so that workers may
be processes here or on other machines.  The process of the run alone touches the store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from lossylens.spec import PluginSpec

if TYPE_CHECKING:
    from lossylens.failure import Failure

J = TypeVar("J")
R = TypeVar("R")
J_contra = TypeVar("J_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

#: Called by a worker with the number of jobs, the next without a result, that it begins
#: to work on together.
Begin = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec(PluginSpec):
    """Declaration of an executor.

    The factory is called as ``factory(options)``.
    """

    kind: ClassVar[str] = "executor"


class Work(Protocol[J_contra, R_co]):
    """What a worker does: jobs in, results out, one for each and in their order."""

    def __call__(
        self, jobs: Iterator[J_contra], begin: Begin, /
    ) -> Generator[R_co | Failure, None, None]:
        """Yield the result of each job.

        Args:
            jobs: those that the worker has; ends when there is no more for the time being.
                The worker is called again when there is.
            begin: see :data:`Begin`; a worker that never calls it works on one at a time.
                When it ends by a crash, these are the jobs that fail, and the others are
                done by another worker.

        Raises:
            LossylensError: no job can be done.
        """
        ...


class Recipe(Protocol[J_contra, R_co]):
    """What a worker is made of; picklable, and equal to those that make the same."""

    @property
    def title(self) -> str:
        """What errors call it, such as ``"vlm 'nano'"``."""
        ...

    def start(self) -> Work[J_contra, R_co]:
        """Return what does the work; called once in each worker.

        Raises:
            LossylensError: it cannot work at all.
        """
        ...


#: See :class:`Resources`.
HALF_OF_MACHINE = 0


@dataclass(frozen=True)
class Resources:
    """What the workers of a recipe may take.

    Attributes:
        workers: how many there are at most; None for as many as there is room for.
        threads: of the libraries in each worker; None for as many as they like.
        gpus: that each needs.
        gpu_memory: bytes that these are taken to have, and smaller ones are to have together;
            0 for any.
        seconds: that the jobs at hand may take before the worker is ended; None for no limit.
        memory: bytes that a worker may take before it is ended; None for no limit, and
            :data:`HALF_OF_MACHINE` for half of those of the machine that it is on.
        kept: whether a worker stays for the next call with the same recipe.
        plugin: place in the configuration of the plugin that does the work.
    """

    workers: int | None = 1
    threads: int | None = None
    gpus: float = 0
    gpu_memory: int = 0
    seconds: float | None = None
    memory: int | None = None
    kept: bool = False
    plugin: str = ""


@dataclass(frozen=True)
class Need:
    """A plugin that does work of a run, and must be the same wherever it does.

    Attributes:
        where: its place in the configuration.
        resources: of its workers.
        look: returns what decides its results where it is called; picklable.  Raises
            LossylensError where something is missing.
    """

    where: str
    resources: Resources
    look: Callable[[], Any]


class Executor(ABC, Generic[J, R]):
    """A way to have work done; a context manager, which ends the workers."""

    #: Whether workers see the files that the run sees, and may put bitstreams into its folder.
    #: If not, images and bitstreams travel with jobs and results.
    shares_folder: bool = False

    def __init__(self, options: Any) -> None:
        self.options = options

    def prepare(  # most have nothing to do
        self,
        needs: Sequence[Need],
        distributions: Mapping[str, str],
        cache: Path | None,
    ) -> None:
        """Make sure that the work of a run can be done; called before anything is written.

        Args:
            needs: of all plugins that do work.
            distributions: versions of all that the run is made of, by name.
            cache: the folder that workers share, if the user has named one.

        Raises:
            LossylensError: it cannot, in one line.
        """

    @abstractmethod
    def room(self, resources: Resources) -> int:
        """Return how many workers of *resources* there would be."""

    @abstractmethod
    def run(
        self, recipe: Recipe[J, R], chunks: Iterable[Sequence[J]], resources: Resources
    ) -> Iterator[tuple[J, R | Failure]]:
        """Yield each job with its result, as they are done.

        Args:
            recipe: of the workers.
            chunks: jobs that go to one worker together, none empty; drawn as they are needed.
            resources: what the workers may take.

        Raises:
            LossylensError: a worker raised one, so no job can be done.
        """

    def release(self) -> None:
        """End the workers that were kept for another call."""

    def close(self) -> None:
        """End all workers."""
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
