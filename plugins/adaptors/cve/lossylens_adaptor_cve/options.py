"""Options of the adaptor and of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lossylens.spec import Missing
from lossylens_toolkit.training.adaptor_options import AdaptorTrainingOptions

#: How the encoder is told codec and level; see :mod:`lossylens_adaptor_cve.conditions`.
CONDITIONS = ("none", "embedding", "film", "query", "rope")

#: Checkpoint of the package, for the VLM ``nano``; see ``nano.yaml`` beside it.
BUNDLED = Path(__file__).with_name("nano.safetensors")


@dataclass
class CveOptions:
    """Options of ``cve`` in a run.

    Attributes:
        checkpoint: file that ``lossylens train adaptor cve`` wrote; without one, and without
            ``checkpoints``, that of the package, which is for the VLM ``nano`` alone.
        checkpoints: one for each VLM, by the name that the configuration gives it.
        map: codecs that the training had not, and the codec as which each is to pass:
            ``{hm: jpeg}``.  Without an entry they get the vector of the unknown codec.
        label: which vector images get: ``true``, or, to see whether the condition is used at
            all, that of another codec and level (``wrong``) or of the unknown (``unknown``).
    """

    checkpoint: Path | None = None
    checkpoints: dict[str, Path] = field(default_factory=dict)
    map: dict[str, str] = field(default_factory=dict)
    label: Literal["true", "wrong", "unknown"] = "true"

    def path(self, name: str, label: str) -> Path | None:
        """Return the checkpoint for a VLM, by what the configuration calls it or by name."""
        given = self.checkpoints.get(label, self.checkpoints.get(name, self.checkpoint))
        if given is None and not self.checkpoints and name == "nano":
            return BUNDLED
        return given

    def paths(self) -> dict[str, Path]:
        """Return all checkpoints by the VLM that each is for, ``""`` for any."""
        found = dict(self.checkpoints)
        if self.checkpoint is not None:
            found[""] = self.checkpoint
        return found or {"nano": BUNDLED}


def missing(options: CveOptions) -> Sequence[Missing]:
    """Return the checkpoints that are not there."""
    return tuple(
        Missing(f"checkpoint {path}", "train it with `lossylens train adaptor cve CONFIG`")
        for path in options.paths().values()
        if not path.is_file()
    )


@dataclass
class LossOptions:
    """What is minimised: a sum of terms with these weights, 0 to leave one out.

    Attributes:
        mse: squared error of what enters the language model, divided by the variance of the
            original's.
        cosine: one minus the cosine between the two, per token.
        layers: squared error of the hidden states of these layers, each divided by its
            variance, averaged, with the weight ``layers_weight``.
        layers_weight: of the layers together.
    """

    mse: float = 1.0
    cosine: float = 0.0
    layers: list[int] = field(default_factory=list)
    layers_weight: float = 0.0


@dataclass
class CveTrainingOptions(AdaptorTrainingOptions):
    """Options of ``lossylens train adaptor cve``, section ``training``; the others are shared.

    Attributes:
        condition: how the encoder is told codec and level: ``none``, ``embedding``, ``film``,
            ``query``, or ``rope``, the published way, which has no effect.
        condition_of: what of it: ``both``, ``type`` (the codec alone) or ``level``.
        level: what stands for the level: ``rate``, the bits per pixel read from the
            bitstream, or ``rank`` among the levels of the codec in training.
        unlabelled: share of compressed images that pass as of an unknown codec.
        loss: what is minimised.
        lora: rank of the low-rank changes (LoRA, arXiv:2106.09685) that are trained of every
            linear map in the encoder's layers; 0 to train all weights.
        lora_alpha: their scale is this divided by the rank.
        resolution: about so many pixels per image; null for the model's own.
        checkpointing: keep less of the encoder's layers for the gradient, compute again.
        condition_rate: learning rate of the condition, as a multiple of the encoder's.

    Raises:
        ValueError: a value out of range.
    """

    condition: str = "film"
    condition_of: Literal["both", "type", "level"] = "both"
    level: Literal["rate", "rank"] = "rate"
    unlabelled: float = 0.15
    loss: LossOptions = field(default_factory=LossOptions)
    lora: int = 0
    lora_alpha: float = 16.0
    resolution: int | None = None
    checkpointing: bool = False
    condition_rate: float = 3.0
    steps: int = 2000
    variants: int = 2

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.condition not in CONDITIONS:
            raise ValueError(f"condition {self.condition!r} is not one of {', '.join(CONDITIONS)}")
        if not 0 <= self.unlabelled <= 1:
            raise ValueError(f"unlabelled is a share, 0 to 1, got {self.unlabelled}")
        if self.lora < 0 or not self.lora_alpha > 0:
            raise ValueError(
                f"lora is a rank and lora_alpha above 0, got {self.lora} and {self.lora_alpha}"
            )
        loss: LossOptions | Mapping[str, object] = self.loss
        if isinstance(loss, LossOptions) and not (loss.mse or loss.cosine or loss.layers_weight):
            raise ValueError("loss: all weights are 0")
