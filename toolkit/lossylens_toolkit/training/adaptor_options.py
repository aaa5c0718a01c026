"""What the configuration of an adaptor's training says; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossylens.spec import MANDATORY

from lossylens_toolkit.training.training_options import (
    DEVICES,
    PRECISIONS,
    WEIGHTS,
    PictureOptions,
    one_of,
)


@dataclass
class AdaptorTrainingOptions:
    """Options that the trainings of all adaptors have.

    Attributes:
        steps: of the whole training; may be changed on resuming.
        batch: pictures in a step, of all processes together.
        variants: compressed variants of each picture in a step.
        clean: share of variants that are the picture as it is.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warmup: steps of linear rise of the rate.
        decay: share of the steps, at the end, in which it falls to zero, as a cosine.
        clip: largest norm of the gradient.
        mixed_precision: ``no``, ``bf16`` or ``fp16``; weights stay in float32.
        device: ``auto`` or ``cpu``; ``accelerate launch`` chooses among GPUs.
        workers: processes that read, encode and decode pictures; 0 for the process itself.
        kept_megabytes: of decoded pictures, and again of what the method keeps of originals,
            that each process holds in memory, so that they are not computed again.
        weights: type in which the checkpoint is written.
        validate_every: steps between validations.
        state_minutes: between two states on disk.

    Raises:
        ValueError: a value out of range.
    """

    steps: int = 1000
    batch: int = 16
    variants: int = 1
    clean: float = 0.15
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: int = 100
    decay: float = 1.0
    clip: float = 1.0
    mixed_precision: str = "no"
    device: str = "auto"
    workers: int = 0
    kept_megabytes: int = 1024
    weights: str = "float32"
    validate_every: int = 250
    state_minutes: float = 5.0

    def __post_init__(self) -> None:
        """Check the values."""
        one_of("mixed_precision", self.mixed_precision, PRECISIONS)
        one_of("device", self.device, DEVICES)
        one_of("weights", self.weights, WEIGHTS)
        for name in ("steps", "batch", "variants", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup", "workers", "kept_megabytes", "state_minutes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("decay", "clean"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, 0 to 1, got {getattr(self, name)}")


@dataclass
class AdaptorTrainingSections:
    """The configuration of ``lossylens train adaptor``.

    Attributes:
        out: folder of states, record and checkpoints.
        vlm: the model, with its options: ``{nano: }``.
        codecs: to be trained on, as in a run: ``{jpeg: {levels: [q1, q3]}}``.
        pictures: to train on.
        validation: pictures to validate on.
        training: options of the method's trainer.
        cache: a folder of bitstreams that trainings and runs share; null for one in ``out``.
        seed: of weights, pictures and order.
        plugins: which installed plugins are loaded, as in a run.
    """

    out: Path = MANDATORY  # type: ignore[assignment]
    vlm: dict[str, Any] = field(default_factory=dict)
    codecs: dict[str, Any] = field(default_factory=dict)
    pictures: PictureOptions = field(default_factory=PictureOptions)
    validation: PictureOptions = field(default_factory=PictureOptions)
    training: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None
    seed: int = 0
    plugins: dict[str, Any] = field(default_factory=dict)
