"""What a report knows of a run, beside the cells that published results have as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from lossylens.cells import Results
from lossylens.store.read_models import EncodingCost

from lossylens_report.metrics.split import Estimate, Split


@dataclass(frozen=True)
class Unfinished:
    """A cell of a run's grid whose questions are not all answered, or not scored yet.

    Attributes:
        model, codec, level, task: labels of the cell.
        answered: questions that have an answer, or a reason why there is none.
        questions: all that are asked.
        scored: whether it is shown all the same, with a score of an earlier start.
    """

    model: str
    codec: str
    level: str
    task: str
    answered: int
    questions: int
    scored: bool = False

    def __str__(self) -> str:
        """Return the labels and how far it is."""
        place = f"{self.model}, {self.codec} {self.level}, {self.task}"
        more = "; its score is of an earlier start" if self.scored else ""
        if not self.scored and self.answered == self.questions:
            more = ", not scored yet"
        return f"{place}: {self.answered} of {self.questions} questions answered{more}"


@dataclass(frozen=True)
class NotApplicable:
    """Cells that a run's configuration names and that do not exist, and why: their labels."""

    model: str
    codec: str
    level: str
    task: str
    reason: str


@dataclass(frozen=True)
class TopicGain:
    """What an adaptor changes on the questions of one topic, all levels of a codec together.

    Attributes:
        vlm, adaptor, codec, task: labels.
        topic: what the task calls it.
        questions: how many, each being asked at all levels.
        plain, adapted: share of right answers without and with the adaptor, in percent.
        low, high: 95 % interval of the difference, over images.
    """

    vlm: str
    adaptor: str
    codec: str
    task: str
    topic: str
    questions: int
    plain: float
    adapted: float
    low: float
    high: float


@dataclass(frozen=True)
class SplitPoint:
    """The gap split of one task at one codec and level.

    Attributes:
        task, codec, level: labels.
        bpp: mean over all images of the task.
        unseen: whether no training had this codec at this level.
        one: the way of tuning that serves all points, ``""`` without one.
        split: in the unit in which reports show scores.
        gains: of every way of tuning that was measured here, by name.
        apart: gain of each joint way but the first minus that of the first, by name.
    """

    task: str
    codec: str
    level: str
    bpp: float
    unseen: bool
    one: str
    split: Split
    gains: Mapping[str, Estimate] = field(default_factory=dict)
    apart: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class WayGain:
    """The BD gain of a joint way of tuning on one codec.

    Attributes:
        task, codec: labels.
        way: its name.
        unseen: whether its training had none of the levels.
        loss: BD-metric of the VLM as it is.
        gain: BD-metric with the adaptor minus that.
        recovered: gain in percent of the loss; None where that is not clear.
    """

    task: str
    codec: str
    way: str
    unseen: bool
    loss: Estimate
    gain: Estimate
    recovered: Estimate | None


@dataclass(frozen=True)
class GapSplit:
    """What ``lossylens gap`` has found out of one VLM.

    Attributes:
        vlm: label.
        seeds: how many trainings of each kind there are.
        points: in the order of the grid.
        codecs: BD gains of the joint ways, of codecs with enough levels.
        clean: by task and way of tuning, what it changes on uncompressed images.
        images: by task, how many clusters of images choose and how many are reported.
        left_out: tasks and trainings that are not in it, with the reason.
    """

    vlm: str
    seeds: int
    points: tuple[SplitPoint, ...]
    codecs: tuple[WayGain, ...]
    clean: Mapping[tuple[str, str], Estimate]
    images: Mapping[str, tuple[int, int]]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class SourceResults(Results):
    """The results of a run; of published ones, what only a run has is empty.

    Attributes:
        unfinished: cells that are not finished.
        not_applicable: cells that do not exist.
        planned: how many cells the grid has.
        state: what became of a run that is not finished, such as ``"was interrupted"``.
        earlier: how many cells of other configurations the run folder holds besides.
        failures: count of failures by (stage, reason), most frequent first.
        sources: count of distinct images by task and source format.
        parts: what decides the answers of a VLM, or the bits of a codec at a level: plugin,
            version, options, weights; by ``("VLM", label)`` or ``("codec", label, level)``.
        topics: what adaptors change by topic of the questions.
        maps: of feature error, as :func:`~lossylens_report.maps.read_maps` gives them.
        split: the gap split, of a run that ``lossylens gap`` has made.
        costs: bytes and time of the encodings of a cell, by its key.
    """

    unfinished: Sequence[Unfinished] = ()
    not_applicable: Sequence[NotApplicable] = ()
    planned: int = 0
    state: str = ""
    earlier: int = 0
    failures: Sequence[tuple[str, str, int]] = ()
    sources: Sequence[tuple[str, str, int]] = ()
    parts: Mapping[tuple[str, ...], Mapping[str, Any]] = field(default_factory=dict)
    topics: Sequence[TopicGain] = ()
    maps: Sequence[Mapping[str, Any]] = ()
    split: GapSplit | None = None
    costs: Mapping[str, EncodingCost] = field(default_factory=dict)

    @classmethod
    def of(cls, published: Results) -> Self:
        """Return published results as a report takes them."""
        return cls(**{each.name: getattr(published, each.name) for each in fields(Results)})
