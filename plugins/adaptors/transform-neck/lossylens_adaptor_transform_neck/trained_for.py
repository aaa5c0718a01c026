"""What a checkpoint was trained for: one VLM, and one checkpoint of one codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lossylens.codec import CodecPoint, Square
from lossylens.errors import ConfigError
from lossylens.vlm import VlmIdentity
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens_toolkit.training.adaptor_training import check_header


@dataclass(frozen=True)
class TrainedFor:
    """A checkpoint by its file.

    Attributes:
        path: of the file.
        method: of which it is; what messages call it.
        codec, level: that it was trained on; ``""`` where it does not say.
        weights: SHA-256 of the checkpoint of that codec; ``""`` for a codec without one.
        square: what pictures became before they were coded; None where it does not say.
        about: header of the file; empty for those of others.
    """

    path: Path
    method: str
    codec: str
    level: str
    weights: str
    square: Square | None
    about: Mapping[str, Any] = field(compare=False)

    @classmethod
    def read(cls, path: Path, method: str) -> Self:
        """Return what a file of lossylens says.

        Raises:
            ConfigError: it is of another method, or cannot be read.
            KeyError, TypeError, ValueError: its header is malformed.
        """
        about = read_checkpoint(path).about
        if about.get("method") != method:
            found = about.get("method") or "something else"
            raise ConfigError(f"{path} is a checkpoint of {found}, not {method}")
        [point] = about["points"]
        square = about["square"]
        return cls(
            path,
            method,
            str(point["codec"]),
            str(point["level"]),
            str(point["provenance"].get("checkpoint", "")),
            Square(int(square["side"]), square["fit"], tuple(square["border"])),
            about,
        )

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.codec} {self.level}" if self.codec else self.path.name

    def unfit(self, vlm: VlmIdentity, point: CodecPoint) -> str:
        """Return why it does not serve *vlm* behind *point*, or ``""``."""
        if self.about and (reason := check_header(self.about, self.method, vlm, self.path)):
            return reason
        return self.unfit_behind(point)

    def unfit_behind(self, point: CodecPoint) -> str:
        """Return why what comes of *point* is not what it was trained on, or ``""``."""
        if self.codec and (self.codec, self.level) != (point.codec, point.level):
            there = f"{point.label} {point.level}"
            return f"no {self.method} for {there}, there is one for {self.name}"
        if point.provenance.get("checkpoint", "") != self.weights:
            return f"the {self.method} of {self.name} was trained on other weights of the codec"
        if self.square is not None and point.square is None:
            return (
                "pictures are coded as they are; it needs"
                f" square: {{side: {self.square.side}, fit: {self.square.fit}}} of the codec"
            )
        if self.square is not None and self.square != point.square:
            return f"pictures are {point.square}, and those of its training were {self.square}"
        return ""


def unserved(files: Sequence[TrainedFor], vlm: VlmIdentity, point: CodecPoint) -> str:
    """Return why not one of *files* serves *vlm* behind *point*, or ``""``.

    What serves is chosen by the codec alone afterwards, so two for one codec are refused, even
    where one of them is for another VLM.
    """
    reasons = [each.unfit(vlm, point) for each in files]
    if all(reasons):
        return nearest_reason(reasons)
    behind = [str(each.path) for each in files if not each.unfit_behind(point)]
    if len(behind) > 1:
        return (
            f"several are for {point.label} {point.level}: {', '.join(behind)}; name in"
            " checkpoints the one that is meant, and give each VLM an adaptor of its own"
        )
    return ""


def nearest_reason(reasons: list[str]) -> str:
    """Return of the reasons of several checkpoints that of the one that lacks least."""
    for part in ("pictures ", "was trained on other weights of the codec"):
        found = next((each for each in reasons if part in each), None)
        if found:
            return found
    return reasons[0]
