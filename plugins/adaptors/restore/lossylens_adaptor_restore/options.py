"""Options of the adaptor and of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lossylens.spec import Missing
from lossylens_toolkit.training.adaptor_options import AdaptorTrainingOptions
from lossylens_toolkit.training.training_options import DEVICES, one_of

#: Shifts of the grid of blocks by less than a block.
MOST_SHIFTS = 64

#: The one codec whose grid and tables are known.
JPEG = "jpeg"


@dataclass
class RestoreOptions:
    """Options of ``restore`` in a run.

    Attributes:
        method: ``network``, a trained network that knows neither codec nor level, or
            ``shifts``, for JPEG: the mean of re-applications of the same JPEG to shifted
            copies of the picture, without training.
        checkpoint: for ``network``, the file that ``lossylens train adaptor restore`` wrote.
        device: of the network, ``auto`` or ``cpu``.
        shifts: for ``shifts``, how many, 1 to 64; time is proportional to it.
        map: for ``shifts``, codecs whose bitstreams are JPEG files by another name:
            ``{mozjpeg: jpeg}``.

    Raises:
        ValueError: a value out of range, or an option of the other method.
    """

    method: Literal["network", "shifts"] = "network"
    checkpoint: Path | None = None
    device: str = "auto"
    shifts: int = 16
    map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        one_of("device", self.device, DEVICES)
        if not 1 <= self.shifts <= MOST_SHIFTS:
            raise ValueError(f"shifts must be 1 to {MOST_SHIFTS}, got {self.shifts}")
        for codec, other in self.map.items():
            if other != JPEG:
                raise ValueError(f"map: {codec} can pass as {JPEG} alone, not as {other!r}")
        if self.method == "network" and self.map:
            raise ValueError("map is for method shifts; the network takes any codec's pictures")
        if self.method == "shifts" and self.checkpoint is not None:
            raise ValueError("checkpoint is for method network; shifts needs none")


def missing(options: RestoreOptions) -> Sequence[Missing]:
    """Return the checkpoint if it is needed and not there."""
    if options.method != "network" or (options.checkpoint and options.checkpoint.is_file()):
        return ()
    what = f"checkpoint {options.checkpoint}" if options.checkpoint else "a checkpoint"
    remedy = "train one with `lossylens train adaptor restore CONFIG` and name it as checkpoint"
    return (Missing(what, f"{remedy}, or take method: shifts for JPEG"),)


@dataclass
class RestorationLoss:
    """What is minimised: a sum of terms with these weights, 0 to leave one out.

    Attributes:
        pixel: Charbonnier's distance of samples in 0..1, a smooth absolute difference.
        features: distance of hidden states of the VLM's vision encoder, as
            :class:`~lossylens_toolkit.training.perceptual.EncoderDistance` has it; the
            checkpoint then serves this VLM alone.
    """

    pixel: float = 1.0
    features: float = 0.0


@dataclass
class RestoreTrainingOptions(AdaptorTrainingOptions):
    """Options of ``lossylens train adaptor restore``, section ``training``; the others are shared.

    Attributes:
        loss: what is minimised.
        crop: side of the squares that are cut of pictures at random, in pixels.
        crops: squares of each variant of a picture, which is decoded once for all.
        width: channels of the network.
        dilations: of its residual blocks, one after the other.

    Raises:
        ValueError: a value out of range.
    """

    steps: int = 20_000
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    loss: RestorationLoss = field(default_factory=RestorationLoss)
    crop: int = 128
    crops: int = 2
    width: int = 32
    dilations: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 4, 2])

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.crop < 2 or self.crop % 2:
            raise ValueError(f"crop must be an even number of pixels, got {self.crop}")
        if self.crops < 1:
            raise ValueError(f"crops must be at least 1, got {self.crops}")
        if self.width < 1 or not self.dilations or min(self.dilations) < 1:
            raise ValueError("width and dilations must be at least 1, of one block or more")
        loss: RestorationLoss | Mapping[str, object] = self.loss
        if isinstance(loss, RestorationLoss):
            if not (loss.pixel >= 0 and loss.features >= 0):
                raise ValueError("loss: weights must not be negative")
            if not (loss.pixel or loss.features):
                raise ValueError("loss: all weights are 0")
