"""The executor contract: where the work of a run is done.

A run hands out jobs; an executor has workers do them and gives back each job with its
result.  What a worker is made of is a *recipe*, which can be pickled, so that workers may
be processes here or on other machines.  The process of the run alone touches the store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
            jobs: waits for the next one where it has to; ends when there is no more for
                the time being.  The worker is called again when there is.
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


@dataclass(frozen=True)
class Resources:
    """What the workers of a recipe may take.

    Attributes:
        workers: how many there are at most.
        threads: of the libraries in each worker; None for as many as they like.
        gpus: that each needs.
        seconds: that the jobs at hand may take before the worker is ended; None for no limit.
        memory: bytes that a worker may take before it is ended; None for no limit.
        kept: whether a worker stays for the next call with the same recipe.
    """

    workers: int = 1
    threads: int | None = None
    gpus: float = 0
    seconds: float | None = None
    memory: int | None = None
    kept: bool = False


class Executor(ABC, Generic[J, R]):
    """A way to have work done; a context manager, which ends the workers."""

    #: Whether workers see the run folder, and may put bitstreams there and read them.  If not,
    #: bitstreams travel with jobs and results.
    shares_folder: bool = False

    def __init__(self, options: Any) -> None:
        self.options = options

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
