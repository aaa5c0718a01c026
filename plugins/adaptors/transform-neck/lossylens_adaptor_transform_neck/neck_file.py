"""Files of necks: those of lossylens, which say what they are of, and the authors'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lossylens.codec import CodecPoint, Square
from lossylens.errors import ConfigError
from lossylens.vlm import VlmIdentity
from lossylens_toolkit.checkpoint_file import CheckpointFileError, load
from lossylens_toolkit.neural_codec.checkpoints import file_hash, modern_names, read_checkpoint
from lossylens_toolkit.training.adaptor_training import check_header
from torch import Tensor

from lossylens_adaptor_transform_neck.neck import NeckShape, TransformNeck

METHOD = "transform-neck"

#: Image pixels per position of the latents of all codecs that there are.
STRIDE = 16

#: Where the authors' necks enter CLIP, counted from 0: "the third layer".
_AUTHORS_ENTRY = 2


@dataclass(frozen=True)
class NeckFile:
    """A neck by its file.

    Attributes:
        path: of the file.
        shape: of the neck.
        entry: layer of the vision encoder that its output enters.
        codec, level: that it was trained on; ``""`` for the authors'.
        weights: SHA-256 of the checkpoint of that codec.
        square: what pictures became before they were coded; None for the authors', which say
            no more than the side.
        about: header of a file of lossylens; empty for the authors'.
        official: whether it is the authors', with the codec in the same file.
    """

    path: Path
    shape: NeckShape
    entry: int
    codec: str
    level: str
    weights: str
    square: Square | None
    about: Mapping[str, Any] = field(compare=False)
    official: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path.name if self.official else f"{self.codec} {self.level}"

    def unfit(self, vlm: VlmIdentity, point: CodecPoint) -> str:
        """Return why it does not serve *vlm* behind *point*, or ``""``."""
        if not self.official and (reason := check_header(self.about, METHOD, vlm, self.path)):
            return reason
        return self.unfit_behind(point)

    def unfit_behind(self, point: CodecPoint) -> str:
        """Return why the latents at *point* are not those that it was trained on, or ``""``."""
        mine = (point.codec, point.level)
        if not self.official and (self.codec, self.level) != mine:
            return f"no neck for {point.label} {point.level}, there is one for {self.name}"
        if point.provenance.get("checkpoint") != self.weights:
            return f"the neck of {self.name} was trained on other weights of the codec"
        side = STRIDE * self.shape.columns
        if point.square is None or point.square.side != side or self.shape.rows * STRIDE != side:
            given = f"are {point.square}" if point.square else "are coded as they are"
            return f"pictures {given}; its neck needs square: {{side: {side}}} of the codec"
        if self.square is not None and self.square != point.square:
            return f"pictures are {point.square}, and those of its training were {self.square}"
        return ""

    def load(self) -> TransformNeck:
        """Return the neck, in float32 and frozen.

        Raises:
            ConfigError: its weights are of another neck than it says.
        """
        state = _official_state(self.path) if self.official else read_checkpoint(self.path).state
        neck = TransformNeck(self.shape)
        own = {name: tuple(value.shape) for name, value in neck.state_dict().items()}
        if own != {name: tuple(value.shape) for name, value in state.items()}:
            raise ConfigError(f"{self.path}: its weights are of another neck than it says")
        neck.load_state_dict(dict(state))
        return neck.eval().requires_grad_(False)


@lru_cache
def read_neck(path: Path) -> NeckFile:
    """Return what a file says.

    Raises:
        ConfigError: it cannot be read, or holds no neck.
    """
    try:
        if path.suffix == ".safetensors":
            return _own(path)
        shape = NeckShape.of_authors(_official_state(path))
        return NeckFile(
            path, shape, _AUTHORS_ENTRY, "", "", file_hash(path), None, {}, official=True
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: it holds no transform-neck: {error}") from error


def _own(path: Path) -> NeckFile:
    about = read_checkpoint(path).about
    if about.get("method") != METHOD:
        found = about.get("method") or "something else"
        raise ConfigError(f"{path} is a checkpoint of {found}, not {METHOD}")
    [point] = about["points"]
    square = about["square"]
    return NeckFile(
        path,
        NeckShape.read(about["neck"]),
        int(about["entry"]),
        str(point["codec"]),
        str(point["level"]),
        str(point["provenance"]["checkpoint"]),
        Square(int(square["side"]), square["fit"], tuple(square["border"])),
        about,
    )


def _official_state(path: Path) -> Mapping[str, Tensor]:
    """Return the neck in a file of the authors', of which tensors alone are read.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        content = load(path, mmap=True).content
    except CheckpointFileError as error:
        raise ConfigError(str(error)) from error
    adapter = content.get("adapter") if isinstance(content, Mapping) else None
    if not isinstance(adapter, Mapping):
        raise ConfigError(f"{path}: holds no state dict called adapter, as the authors' files do")
    return modern_names({n: value for n, value in adapter.items() if isinstance(value, Tensor)})
