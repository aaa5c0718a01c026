"""Files of necks: those of lossylens, which say what they are of, and the authors'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from lossylens.codec import CodecPoint
from lossylens.errors import ConfigError
from lossylens_toolkit.checkpoint_file import CheckpointFileError, load
from lossylens_toolkit.neural_codec.checkpoints import file_hash, modern_names, read_checkpoint
from torch import Tensor

from lossylens_adaptor_transform_neck.neck import NeckShape, TransformNeck
from lossylens_adaptor_transform_neck.placing import STRIDE
from lossylens_adaptor_transform_neck.trained_for import TrainedFor

METHOD = "transform-neck"

#: Tensor of a file with latents of some pictures of the training, ``(N, C, H, W)``, which are
#: given to the neck as those of other pictures.
OTHERS = "others"

#: Where the authors' necks enter CLIP, counted from 0: "the third layer".
_AUTHORS_ENTRY = 2


@dataclass(frozen=True)
class NeckFile(TrainedFor):
    """A neck by its file; the authors' do not say their codec, which is in the same file.

    Attributes:
        shape: of the neck.
        entry: layer of the vision encoder that its output enters.
    """

    shape: NeckShape
    entry: int

    @property
    def official(self) -> bool:
        """Whether it is the authors'."""
        return not self.about

    def unfit_behind(self, point: CodecPoint) -> str:
        """Return why the latents at *point* are not those that it was trained on, or ``""``."""
        reason, side = super().unfit_behind(point), STRIDE * self.shape.columns
        if not reason and (point.square is None or point.square.side != side):
            given = f"are {point.square}" if point.square else "are coded as they are"
            return f"pictures {given}; it needs square: {{side: {side}}} of the codec"
        return reason

    def load(self) -> TransformNeck:
        """Return the neck, in float32 and frozen.

        Raises:
            ConfigError: its weights are of another neck than it says.
        """
        own = _official_state(self.path) if self.official else read_checkpoint(self.path).state
        state = {name: value for name, value in own.items() if name != OTHERS}
        neck = TransformNeck(self.shape)
        wanted = {name: tuple(value.shape) for name, value in neck.state_dict().items()}
        if wanted != {name: tuple(value.shape) for name, value in state.items()}:
            raise ConfigError(f"{self.path}: its weights are of another neck than it says")
        neck.load_state_dict(state)
        return neck.eval().requires_grad_(False)

    def others(self) -> Tensor:
        """Return latents of other pictures, ``(N, C, H, W)``.

        Raises:
            ConfigError: the file has none.
        """
        found = None if self.official else _others(self.path)
        shape = (self.shape.channels, self.shape.rows, self.shape.columns)
        if found is None or found.shape[1:] != shape or not len(found):
            raise ConfigError(f"latents: other: {self.path} holds none of other pictures")
        return found


@lru_cache
def read_neck(path: Path) -> NeckFile:
    """Return what a file says.

    Raises:
        ConfigError: it cannot be read, or holds no neck.
    """
    try:
        if path.suffix == ".safetensors":
            base = TrainedFor.read(path, METHOD)
            known = {each.name: getattr(base, each.name) for each in fields(base)}
            shape = NeckShape.read(base.about["neck"])
            return NeckFile(**known, shape=shape, entry=int(base.about["entry"]))
        shape = NeckShape.of_authors(_official_state(path))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: it holds no transform-neck: {error}") from error
    return NeckFile(path, METHOD, "", "", file_hash(path), None, {}, shape, _AUTHORS_ENTRY)


@lru_cache
def _others(path: Path) -> Tensor | None:
    found = read_checkpoint(path).state.get(OTHERS)
    return None if found is None else found.float()


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
