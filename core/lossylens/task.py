"""The task (benchmark) contract: samples in, predictions scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lossylens.spec import PluginSpec
from lossylens.vlm import Question


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture of a task's data, read when it is needed.

    Attributes:
        key: names the picture within the task's data; rows that share a picture
            share its key, so that it is read once.
        read: returns the bytes of the image file (PNG, JPEG ...) as stored.
            It must be picklable or cheap to call in the process that iterates
            the samples.
        context: whether it is shown as it is, and does not count into the rate: an example
            that the model is given, say, and not what it is asked about.
    """

    key: str
    read: Callable[[], bytes]
    context: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a task.

    Attributes:
        id: unique within the task's data (the row's ``index``), as text.
        images: the pictures it is about, in the order of the markers in the question; a
            picture may come twice.  A single one can be given without a tuple.
        question: the structured question.
        fields: what a report may group or show, such as category and answer.
        cluster: samples of one cluster are drawn together by the bootstrap, because their
            answers depend on each other; by default those about the same pictures.
    """

    id: str
    images: tuple[ImageRef, ...]
    question: Question
    fields: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""

    def __post_init__(self) -> None:
        given: object = self.images
        if isinstance(given, ImageRef):
            object.__setattr__(self, "images", (given,))


@dataclass(frozen=True, slots=True)
class Primary:
    """The metric that stands for a task.

    Attributes:
        name: path within ``Score.metrics``, joined by ``/``.
        low, high: range of possible values.
        higher_is_better: direction.
    """

    name: str
    low: float
    high: float
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Score:
    """The result of scoring.

    Attributes:
        metrics: named values, nested as the reference evaluator nests them.
        value: value of the task's primary metric.
        verdicts: per sample, 1 for right and 0 for wrong, or a credit between;
            None where the metric has no per-sample verdict.
        extracted: per sample, the answer that was read out of the prediction.
        samples: how many samples the data hold.
        missing: how many had no prediction.
        failed: how many predictions are recorded as failed.
        unextracted: how many predictions no answer could be read from.
    """

    metrics: Mapping[str, Any]
    value: float
    verdicts: Mapping[str, float | None] = field(default_factory=dict)
    extracted: Mapping[str, str] = field(default_factory=dict)
    samples: int = 0
    missing: int = 0
    failed: int = 0
    unextracted: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskSpec(PluginSpec):
    """Declaration of a task.

    The factory is called as ``factory(options)``.

    Attributes:
        primary: the headline metric.
    """

    kind: ClassVar[str] = "task"

    primary: Primary


class Task(ABC):
    """A benchmark with its data."""

    @abstractmethod
    def samples(self) -> Iterator[Sample]:
        """Yield all samples, in the order of the data, always the same.

        Raises:
            DataError: a malformed row, with file, row and column.
        """

    @abstractmethod
    def score(self, predictions: Mapping[str, str | None]) -> Score:
        """Score *predictions*, a mapping from sample id to answer text.

        None marks a failed sample, which is scored as a wrong answer and counted.  A
        sample that is absent was not asked (``run.limit``, say): the score is that of data
        without it, and it is counted as missing.

        Raises:
            DataError: a prediction for an unknown id.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of the data; predictions are reused only where it agrees."""

    def provenance(self) -> Mapping[str, str]:
        """Return what else the manifest should say about the data (file, checksum)."""
        return {}
