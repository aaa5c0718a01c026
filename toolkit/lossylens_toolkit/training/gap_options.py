"""What the configuration of ``lossylens gap`` says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lossylens.spec import MANDATORY


@dataclass
class GapSections:
    """The configuration of ``lossylens gap``.

    Attributes:
        out: folder of the trainings, of the run and of the results.
        adaptor: that is trained; a run must take its option ``checkpoint``.
        vlm: the model, with its options: ``{nano: }``.
        codecs: trained on and measured, as in a run: ``{jpeg: {levels: [q1, q3]}}``.
        unseen: codecs that are measured alone.
        pictures: to train on.
        validation: pictures that the trainings validate on.
        tasks: what is asked, as in a run.
        training: options of all trainings; see ``lossylens train adaptor``.
        arms: joint trainings, on all codecs and levels, by name, with their own options:
            ``{film: {condition: film}, none: {condition: none}}``; without any there is
            one, ``joint``.
        points: codecs and levels for each of which the adaptor is tuned alone:
            ``{jpeg: [q1]}``; null for all, an empty mapping for none.
        alone: options of these trainings, and of the control.
        control: whether one is tuned on uncompressed images alone.
        seeds: of the trainings; each is done with all.
        share: of the task's images by which trainings are chosen; the others are reported.
        run: options of the run, but for its folders; see ``lossylens config --section run``.
        cache: a folder of bitstreams that trainings and runs share; null for one in ``out``.
        plugins: which installed plugins are loaded, as in a run.

    Raises:
        ValueError: a value out of range.
    """

    out: str = MANDATORY
    adaptor: str = MANDATORY
    vlm: dict[str, Any] = field(default_factory=dict)
    codecs: dict[str, Any] = field(default_factory=dict)
    unseen: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, Any] = field(default_factory=dict)
    points: Any = None
    alone: dict[str, Any] = field(default_factory=dict)
    control: bool = True
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    share: float = 0.3
    run: dict[str, Any] = field(default_factory=dict)
    cache: str | None = None
    plugins: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.share < 1:
            raise ValueError(f"share is between 0 and 1, got {self.share}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds: expected different ones, 0 or more, got {self.seeds}")
        for name in ("out", "cache"):
            if name in self.run:
                raise ValueError(f"run.{name}: set {name} itself, for trainings and run")
        for name in ("baseline", "uncompressed"):
            if name in self.run:
                raise ValueError(f"run.{name}: the split needs both; leave it out")
