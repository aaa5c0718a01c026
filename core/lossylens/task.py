"""The task (benchmark) contract: samples in, predictions scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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
        label: class of what it shows, where the data know one; trainings may ask for it.
    """

    key: str
    read: Callable[[], bytes]
    context: bool = False
    label: str = ""


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

    @property
    def percent(self) -> bool:
        """Whether values are shown in percent: those whose range is 0 to 1."""
        return self.high == 1

    def shown(self, value: float) -> float:
        """Return *value* as runs and reports show it."""
        return 100 * value if self.percent else value


class Aggregate(StrEnum):
    """How a score is made of sums over its samples.

    A sample's parts are of the kinds that are named here.  A credit is what the sample has
    earned, a weight what it could have: 1 for most.

    Attributes:
        MEAN: a credit and a weight; the sum of credits over the sum of weights.
        F1: true positives, predicted positives and actual positives; twice the first sum over
            the sum of the others, and 0 without true positives.
        SUM_OF_MEANS: a credit and a weight for each of several groups, one group after the
            other, zeros where the sample is not in a group; the sum of the groups' means.
    """

    MEAN = "mean"
    F1 = "f1"
    SUM_OF_MEANS = "sum-of-means"


@dataclass(frozen=True, slots=True)
class Resampling:
    """What it takes to compute a score anew for samples drawn with replacement.

    A run adds the parts up over each cluster of samples and keeps the sums; a report draws
    clusters and takes the aggregate of what it has drawn.  Over all clusters the aggregate
    is the score.

    Attributes:
        aggregate: how the score is made of the sums.
        parts: per sample, what it adds to each of the sums; nothing for a sample without.
        factor: of the aggregate, such as 100 for a score in percent.
    """

    aggregate: Aggregate
    parts: Mapping[str, tuple[float, ...]]
    factor: float = 1.0

    @classmethod
    def mean(cls, earned: Mapping[str, float | None], factor: float = 1.0) -> Resampling:
        """Return that of *factor* times the mean of credits, those that are None left out."""
        parts = {sample: (each, 1.0) for sample, each in earned.items() if each is not None}
        return cls(Aggregate.MEAN, parts, factor)

    @classmethod
    def sum(cls, earned: Mapping[str, float | None], factor: float = 1.0) -> Resampling:
        """Return that of *factor* times the sum of credits, such as a number of right answers.

        It is their mean times how many there are, so that a draw of clusters that happen to
        have more samples is no better score.
        """
        mean = cls.mean(earned)
        return cls(mean.aggregate, mean.parts, factor * len(mean.parts))

    @classmethod
    def sum_of_means(cls, groups: Iterable[Mapping[str, float]], factor: float = 1.0) -> Resampling:
        """Return that of *factor* times the sum of the means of several groups of credits.

        Args:
            groups: the credits of each; a sample can be in several.  Empty ones count nothing.
            factor: such as 1 over the number of groups for a mean of means.
        """
        given = [group for group in groups if group]
        parts: dict[str, list[float]] = {}
        for place, group in enumerate(given):
            for sample, credit in group.items():
                own = parts.setdefault(sample, [0.0] * (2 * len(given)))
                own[2 * place : 2 * place + 2] = credit, 1.0
        kept = {sample: tuple(own) for sample, own in parts.items()}
        return cls(Aggregate.SUM_OF_MEANS, kept, factor)

    def sums(self, clusters: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
        """Return the sums of the parts by cluster.

        Args:
            clusters: the cluster of each sample, by its id.
        """
        found: dict[str, tuple[float, ...]] = {}
        for sample, parts in self.parts.items():
            before = found.get(clusters[sample], (0.0,) * len(parts))
            added = zip(before, parts, strict=True)
            found[clusters[sample]] = tuple(one + float(other) for one, other in added)
        return found


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
        resampling: how ``value`` is made of its samples, for confidence intervals; None where
            that cannot be said, and then there are none.
    """

    metrics: Mapping[str, Any]
    value: float
    verdicts: Mapping[str, float | None] = field(default_factory=dict)
    extracted: Mapping[str, str] = field(default_factory=dict)
    samples: int = 0
    missing: int = 0
    failed: int = 0
    unextracted: int = 0
    resampling: Resampling | None = None


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
