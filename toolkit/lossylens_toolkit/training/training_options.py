"""What the configuration of a training says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossylens.spec import MANDATORY

PRECISIONS = ("no", "bf16", "fp16")
DISTORTIONS = ("mse", "ms-ssim")
WEIGHTS = ("float32", "float16")
DEVICES = ("auto", "cpu")
BEGINNINGS = ("random", "klt")
NONE, PATCH, UNET = "none", "patch", "unet"
DISCRIMINATORS = (NONE, PATCH, UNET)


@dataclass
class PictureOptions:
    """Where pictures come from; several sources are taken together.

    Attributes:
        folders: of image files, subfolders included.
        photographs: those that scikit-image and scikit-learn ship: ``held-in`` for
            training, ``held-out`` for validation, or ``all``; the distribution
            ``lossylens-task-scenes`` says which they are and under which licence.
        tasks: tasks whose images are taken, with their options:
            ``{scenes: {images: 64, photographs: held-in}}``.
    """

    folders: list[Path] = field(default_factory=list)
    photographs: str | None = None
    tasks: dict[str, Any] = field(default_factory=dict)


@dataclass
class RateOptions:
    """A rate to train for, instead of one weight of rate against distortion.

    Attributes:
        target: bits per pixel; None for the weight 1.
        above: weight of the rate in the loss of batches above the target.
        below: weight in the loss of those that are not.
        relaxed_steps: steps at the beginning with another target and weight.
        relaxed_target: factor of the target in these.
        relaxed_weight: factor of *above* in these.
    """

    target: float | None = None
    above: float = 2.0
    below: float = 0.0625
    relaxed_steps: int = 0
    relaxed_target: float = 1.429
    relaxed_weight: float = 1.0


@dataclass
class PerceptualOptions:
    """A perceptual loss.

    Attributes:
        weight: in the loss; 0 for none.
        network: ``lpips``, the name of a VLM whose vision encoder is used, or ``auto``:
            LPIPS where its weights are, else the nano VLM.
    """

    weight: float = 0.0
    network: str = "auto"


@dataclass
class AdversarialOptions:
    """An adversarial loss.

    Attributes:
        discriminator: ``none``, ``patch`` for HiFiC's or ``unet`` for MS-ILLM's.
        weight: in the loss.
        learning_rate: of the discriminator's Adam.
        width: channels of its first layer.
        labels: of cells, for ``unet``.
        only_synthesis: whether all but the synthesis transform keeps its weights.
    """

    discriminator: str = NONE
    weight: float = 0.15
    learning_rate: float = 1e-4
    width: int = 64
    labels: int = 1024
    only_synthesis: bool = False


@dataclass
class GainOptions:
    """Training of one network for many rates (:mod:`lossylens_toolkit.training.gain_training`).

    Attributes:
        levels: names by lambda, ascending in rate: ``[lambda0.0128, lambda0.0064]``; none for
            a network of one rate.  At ``level`` all gains begin as 1; ``start`` may be a
            checkpoint of the codec whose network it is, of one rate.
    """

    levels: list[str] = field(default_factory=list)


@dataclass
class CodecTrainingOptions:
    """Options of ``lossylens train codec``.

    Attributes:
        out: folder of the states, the curve and the checkpoint, ``LEVEL.safetensors``.
        level: that the checkpoint is of.
        multiplier: Lagrangian multiplier of the distortion; by default the parameter
            ``lambda`` of the level.
        network: arguments of the network's ``build``; by default those of ``start``, or
            the official ones.
        start: checkpoint to fine-tune from; it may be of another level.
        begin: where the analysis and synthesis transforms begin without ``start``:
            ``random``, or ``klt`` for the Karhunen-Loève transform of the training
            pictures, which saves thousands of steps.
        train: pictures to train on.
        validation: pictures to validate on.
        distortion: ``mse``, on the scale of 0..255, or ``ms-ssim``, as 1 - MS-SSIM.
        rate: a rate to train for; for generative codecs, as the next two.
        perceptual: a perceptual loss.
        adversarial: an adversarial loss.
        gains: one network for many rates.
        crop: side of the square crops, in pixels.
        batch: crops in a step, of all processes together.
        steps: of the whole training; may be changed on resuming.
        learning_rate: of Adam.
        transform_learning_rate: of the analysis and synthesis transforms, as a share of
            the root mean square of each of their tensors at the beginning; by default
            they too have ``learning_rate``.
        auxiliary_learning_rate: of the optimiser of the entropy bottleneck's quantiles.
        warmup: steps of linear rise of both rates.
        hold: steps at the beginning in which the analysis and synthesis transforms keep
            their weights, so that the probability model learns them first.
        decay: share of the steps, at the end, in which both fall to a hundredth, as a cosine.
        clip: largest norm of the gradient.
        mixed_precision: of the analysis and synthesis transforms: ``no``, ``bf16`` or
            ``fp16``; the probability model is always in float32.
        weights: type in which the checkpoint is written.
        seed: of weights, crops and noise.
        device: ``auto`` or ``cpu``; ``accelerate launch`` and ``CUDA_VISIBLE_DEVICES``
            choose among GPUs.
        workers: processes that read pictures; 0 for the process itself.
        validate_every: steps between validations.
        state_minutes: between two states on disk.

    Raises:
        ValueError: a value out of range.
    """

    out: Path = MANDATORY  # type: ignore[assignment]
    level: str = MANDATORY
    multiplier: float | None = None
    network: dict[str, Any] = field(default_factory=dict)
    start: Path | None = None
    begin: str = "random"
    train: PictureOptions = field(default_factory=PictureOptions)
    validation: PictureOptions = field(default_factory=PictureOptions)
    distortion: str = "mse"
    rate: RateOptions = field(default_factory=RateOptions)
    perceptual: PerceptualOptions = field(default_factory=PerceptualOptions)
    adversarial: AdversarialOptions = field(default_factory=AdversarialOptions)
    gains: GainOptions = field(default_factory=GainOptions)
    crop: int = 256
    batch: int = 8
    steps: int = 1_000_000
    learning_rate: float = 1e-4
    transform_learning_rate: float | None = None
    auxiliary_learning_rate: float = 1e-3
    warmup: int = 0
    hold: int = 0
    decay: float = 0.2
    clip: float = 1.0
    mixed_precision: str = "no"
    weights: str = "float32"
    seed: int = 0
    device: str = "auto"
    workers: int = 0
    validate_every: int = 5000
    state_minutes: float = 5.0

    def __post_init__(self) -> None:
        """Check the values."""
        one_of("mixed_precision", self.mixed_precision, PRECISIONS)
        one_of("distortion", self.distortion, DISTORTIONS)
        one_of("weights", self.weights, WEIGHTS)
        one_of("device", self.device, DEVICES)
        one_of("begin", self.begin, BEGINNINGS)
        for name in ("crop", "batch", "steps", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        rates = ("learning_rate", "transform_learning_rate", "auxiliary_learning_rate")
        for name in (*rates, "clip", "multiplier"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a number above 0, got {value}")
        for name in ("warmup", "hold", "workers", "state_minutes", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        self._check_generative()
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay is a share of the steps, 0 to 1, got {self.decay}")

    @property
    def generative(self) -> bool:
        """Whether there is more than rate and distortion."""
        return (
            self.rate.target is not None
            or self.perceptual.weight > 0
            or self.adversarial.discriminator != NONE
        )

    def _check_generative(self) -> None:
        adversarial = self.adversarial
        one_of("adversarial.discriminator", adversarial.discriminator, DISCRIMINATORS)
        above_zero = {
            "rate.target": self.rate.target,
            "rate.above": self.rate.above,
            "rate.relaxed_target": self.rate.relaxed_target,
            "rate.relaxed_weight": self.rate.relaxed_weight,
            "adversarial.learning_rate": adversarial.learning_rate,
            "adversarial.width": adversarial.width,
            "adversarial.labels": adversarial.labels,
        }
        for name, value in above_zero.items():
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a number above 0, got {value}")
        not_below = {
            "rate.below": self.rate.below,
            "rate.relaxed_steps": self.rate.relaxed_steps,
            "perceptual.weight": self.perceptual.weight,
            "adversarial.weight": adversarial.weight,
        }
        for name, value in not_below.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a number and not negative, got {value}")


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Make sure that the option *name* has a known value.

    Raises:
        ValueError: it has not.
    """
    if value not in known:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
