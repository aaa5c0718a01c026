"""Options of the adaptor and of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lossylens.spec import Missing
from lossylens_toolkit.training.adaptor_options import AdaptorTrainingOptions

#: Checkpoint of the package, for the VLM ``nano`` behind ``cotam-elic`` nano; see ``nano.yaml``.
BUNDLED = Path(__file__).with_name("nano.safetensors")


@dataclass
class CotamAdaptorOptions:
    """Options of ``cotam`` in a run.

    Attributes:
        checkpoint: file that ``lossylens train adaptor cotam`` wrote; by default that of the
            package, which is for the VLM ``nano`` behind the nano codec ``cotam-elic``.
    """

    checkpoint: Path | None = None

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.checkpoint or BUNDLED


def missing(options: CotamAdaptorOptions) -> Sequence[Missing]:
    """Return the checkpoint if it is not there."""
    if options.path.is_file():
        return ()
    remedy = "train it with `lossylens train adaptor cotam CONFIG`"
    return (Missing(f"checkpoint {options.path}", remedy),)


@dataclass
class CotamTrainingOptions(AdaptorTrainingOptions):
    """Options of ``lossylens train adaptor cotam``, section ``training``; the others are shared.

    Attributes:
        low: weight of the squared error of the patch embeddings, divided by the variance of
            the original's.
        high: weight of that of the tokens behind the last layer that the VLM reads.
        low_first: share of the steps, at the beginning, in which ``low`` is alone; of no
            effect where one of the two is 0.
        reconstruction: whether the decoded picture is used; if not, the latents alone make
            the embeddings.
        layer: whose input the latents are added to, counted from 0.
        latents: ``own``; or, as controls, ``other``, those of another picture, or ``none``,
            which leaves a learned shift of each position that is the same for all pictures.
        grid: patches along each side of the learned positions, resized to those of a tile.
        heads: of the transformer block; by default one for each 64 channels.

    Raises:
        ValueError: a value out of range.
    """

    low: float = 0.1
    high: float = 1.0
    low_first: float = 0.2
    reconstruction: bool = True
    layer: int = 0
    latents: Literal["own", "other", "none"] = "own"
    grid: int = 16
    heads: int | None = None
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
        if self.clean:
            raise ValueError("clean: a picture that was not compressed has no latents; leave it 0")
