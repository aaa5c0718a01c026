"""Options of the adaptor and of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lossylens.spec import Missing
from lossylens_toolkit.training.adaptor_options import AdaptorTrainingOptions

#: VLMs for which the package has a checkpoint, each behind ``cotam-elic`` nano; see ``nano.yaml``
#: and ``nano_llava.yaml``.
HOSTS = ("nano", "nano-llava")


@dataclass
class CotamAdaptorOptions:
    """Options of ``cotam`` in a run.

    Attributes:
        checkpoint: file that ``lossylens train adaptor cotam`` wrote; by default that of the
            package for *host*, behind the nano codec ``cotam-elic``.
        host: VLM whose checkpoint of the package is meant, ``nano`` or ``nano-llava``.

    Raises:
        ValueError: the package has no checkpoint for such a VLM.
    """

    checkpoint: Path | None = None
    host: str = "nano"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.host not in HOSTS:
            raise ValueError(f"host {self.host!r} is not one of {', '.join(HOSTS)}")

    @property
    def path(self) -> Path:
        """The checkpoint."""
        file = f"{self.host.replace('-', '_')}.safetensors"
        return self.checkpoint or Path(__file__).with_name(file)


def missing(options: CotamAdaptorOptions) -> Sequence[Missing]:
    """Return the checkpoint if it is not there."""
    if options.path.is_file():
        return ()
    remedy = "train it with `lossylens train adaptor cotam CONFIG`"
    return (Missing(f"checkpoint {options.path}", remedy),)


@dataclass
class FineTuningOptions:
    """Options of the codec's training beside the adapter: the fine-tuned variant.

    Attributes:
        rate: weight of the bits per pixel in the loss, times the lambda of their level; 0 leaves
            the codec as it is.  4 is about the trade-off that the nano codec has already.
        codec_rate: learning rate of the codec, as a share of the adapter's.

    Raises:
        ValueError: a value out of range.
    """

    rate: float = 0.0
    codec_rate: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        if not (0 <= self.rate < float("inf") and 0 < self.codec_rate < float("inf")):
            raise ValueError(
                f"fine_tune: rate must not be negative and codec_rate above 0, got {self.rate} and"
                f" {self.codec_rate}"
            )


@dataclass
class CotamTrainingOptions(AdaptorTrainingOptions):
    """Options of ``lossylens train adaptor cotam``, section ``training``; the others are shared.

    Attributes:
        low: weight of the squared error of the patch embeddings, divided by the variance of
            the original's.
        high: weight of that of what ``match`` names, likewise divided.
        match: ``tokens``, those of the patches behind the last layer that the VLM reads; or
            ``pooled``, CLIP's embedding of the picture, as the authors' code has it, for VLMs
            that see through a CLIP.
        pooled_by: for ``match: pooled``, hub id, folder or short name of that CLIP.
        low_first: share of the steps, at the beginning, in which ``low`` is alone; of no
            effect where one of the two is 0.
        reconstruction: whether the decoded picture is used; if not, the latents alone make
            the embeddings.
        layer: whose input the latents are added to, counted from 0.
        latents: ``own``; or, as controls, ``other``, those of another picture, or ``none``,
            which leaves a learned shift of each position that is the same for all pictures.
        grid: patches along each side of the learned positions, resized to those of a tile.
        heads: of the transformer block; by default one for each 64 channels.
        fine_tune: the codec's encoder and entropy model are trained too; its decoder stays.

    Raises:
        ValueError: a value out of range.
    """

    low: float = 0.1
    high: float = 1.0
    match: Literal["tokens", "pooled"] = "tokens"
    pooled_by: str = ""
    low_first: float = 0.2
    reconstruction: bool = True
    layer: int = 0
    latents: Literal["own", "other", "none"] = "own"
    grid: int = 16
    heads: int | None = None
    fine_tune: FineTuningOptions = field(default_factory=FineTuningOptions)
    clean: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if not (self.low >= 0 and self.high >= 0 and self.low + self.high > 0):
            raise ValueError(
                f"low and high are weights, not both 0, got {self.low} and {self.high}"
            )
        if not 0 <= self.low_first <= 1:
            raise ValueError(f"low_first is a share, 0 to 1, got {self.low_first}")
        if self.layer < 0 or self.grid < 1 or (self.heads is not None and self.heads < 1):
            raise ValueError("layer must not be negative, grid and heads must be at least 1")
        if (self.match == "pooled") != bool(self.pooled_by):
            raise ValueError("match: pooled and the option pooled_by go together")
        if self.fine_tune.rate and self.latents != "own":
            raise ValueError("fine_tune trains a codec for its own latents; leave latents: own")
        if self.clean:
            raise ValueError("clean: a picture that was not compressed has no latents; leave it 0")
