"""Scored cells and what is known about them, of a run or as somebody published them.

A report takes several :class:`Results` and lays them side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Label of the codec that stands for the original image.
UNCOMPRESSED = "uncompressed"


@dataclass(frozen=True)
class CellResult:
    """One scored cell of the grid.

    Scores whose range is 0 to 1 are given in percent.

    Attributes:
        vlm: label of the VLM.
        adaptor: label of its adaptor, ``""`` without one.
        codec, level, task: labels of the cell.
        uncompressed: whether the codec stands for the original image.
        metric: name of the task's primary metric.
        value: the primary metric.
        bpp: mean over the distinct images, bits per pixel of the original; NaN where
            it is not known.
        higher_is_better: direction of the metric.
        bpp_total: total bits over total pixels; NaN where it is not known.
        parameters: of the VLM, in millions; None where it is not known.
        images: how many distinct images; 0 where it is not known.
        samples, failed, missing, unextracted: counts of samples.
        limited: how many images were asked about, where the task has more; else None.
        metrics: all metrics, as the task nests them.
        interval: confidence interval of the value; None where there is none.
        key: of the cell in its run folder.
        fidelity: how far the decoded images are from their originals, by title of the
            metric; what was not measured is left out.
        unseen: whether the adaptor was trained, and not with this codec at this level.
        stale: whether the score is of an earlier start of the run, which asked other samples.
    """

    vlm: str
    adaptor: str
    codec: str
    level: str
    task: str
    uncompressed: bool
    metric: str
    value: float
    bpp: float
    higher_is_better: bool = True
    bpp_total: float = float("nan")
    parameters: float | None = None
    images: int = 0
    samples: int = 0
    failed: int = 0
    missing: int = 0
    unextracted: int = 0
    limited: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    key: str = ""
    fidelity: Mapping[str, float] = field(default_factory=dict)
    unseen: bool = False
    stale: bool = False

    @property
    def model(self) -> str:
        """The VLM with its adaptor, if there is one."""
        return f"{self.vlm} + {self.adaptor}" if self.adaptor else self.vlm

    def __str__(self) -> str:
        """Return the labels."""
        return f"{self.model}, {self.codec} {self.level}, {self.task}"


@dataclass(frozen=True)
class TaskData:
    """What tells whether scores of two sources on one task can be compared.

    Attributes:
        identities: names of the data with their questions, such as a hash of all
            samples, or ``"reference pope"`` for the reference evaluator's file.
            Two sources that have none in common cannot be compared.
        words: the data in words, such as ``"985 questions on 100 images of
            POPE.tsv"``.
    """

    identities: frozenset[str]
    words: str


@dataclass(frozen=True)
class Note:
    """What a reader must know about particular figures.

    Attributes:
        text: the whole of it.
        about: labels of the tasks whose scores it concerns, or ``"gaps"``; it is told there
            as well as among the warnings.
    """

    text: str
    about: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reported:
    """A figure that somebody printed, to be laid beside the recomputed one.

    Attributes:
        table: where it was printed.
        measure: ``"bd-metric"``, ``"bd-gain"`` (adapted minus base), ``"score"``,
            ``"rate"``, ``"performance gap"``, ``"information gap"`` or
            ``"generalisation gap"``.
        model, codec, task: labels; a rate is of all models, so that its model is ``""``.
        value: None where the cell is illegible.
        doubt: why it cannot be expected to be reproduced, or ``""``.
        level: label, of what is measured at one level; a BD-metric has none.
        tolerance: largest difference at which the recomputed figure agrees.
    """

    table: str
    measure: str
    model: str
    codec: str
    task: str
    value: float | None
    doubt: str = ""
    level: str = ""
    tolerance: float = 0.0


@dataclass(frozen=True)
class Results:
    """What was measured on cells, as somebody published it.

    Attributes:
        name: of the publication.
        cells: all scored cells.
        data: by task label.
        unscored: cells whose score is not a number, in words.
        notes: on particular figures.
        reported: figures printed by the source.
        rate_sources: where rates come from that were not measured here, in words.
        manifest: what the results were made with, as nested mappings.
        published: whether they are somebody's, and no run's.
    """

    name: str
    cells: Sequence[CellResult]
    data: Mapping[str, TaskData]
    unscored: Sequence[str] = ()
    notes: Sequence[Note] = ()
    reported: Sequence[Reported] = ()
    rate_sources: Sequence[str] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    published: bool = False
