"""The adaptor contract: methods that make a VLM robust to compression.

An adaptor changes what the model sees: the picture that was decoded
(:meth:`Adaptor.picture`), what the vision encoder makes of it (:meth:`Adaptor.encoder`), or
both.  The language model is never touched, so that the model with and without its adaptors
is loaded once.  Plugins register an :class:`AdaptorSpec` and implement :class:`Adaptor`; a
method that is trained names a :class:`Trainer` too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lossylens.spec import NoOptions, PluginSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    from lossylens.codec import Codec, CodecPoint
    from lossylens.vlm import Condition, VisionAccess, VisionEncoder, Vlm, VlmIdentity


class Needs(Flag):
    """What of a compressed image an adaptor takes.

    Without ``PIXELS`` no picture is decoded, and the encoder gets None in its place.  With
    them it serves uncompressed images too, which have no bitstream.
    """

    PIXELS = auto()
    BITSTREAM = auto()
    LATENTS = auto()


@dataclass(frozen=True, kw_only=True)
class AdaptorSpec(PluginSpec):
    """Declaration of an adaptation method.

    The factory is called as ``factory(options)``.

    Attributes:
        trainer: import path of the :class:`Trainer`, called as ``trainer(options)``; ``""``
            for a method that needs no training.
        training: options of the trainer.
    """

    kind: ClassVar[str] = "adaptor"

    trainer: str = ""
    training: type = NoOptions


class Adaptor(ABC):  # noqa: B024 - either method may be the one that is left out
    """A method that adapts a VLM to compressed images.

    Built when a run is planned, so it is light: checkpoints are hashed, their headers are
    read, and weights are loaded in :meth:`encoder` or at the first :meth:`picture`.
    Subclasses override :meth:`picture`, :meth:`encoder`, or both.
    """

    #: What it takes of a compressed image.
    needs: Needs = Needs.PIXELS

    def __init__(self, options: Any) -> None:
        self.options = options

    def provenance(self) -> Mapping[str, str]:
        """Return what else decides the answers, hashes of checkpoints above all; always in the key.

        Raises:
            RequirementError: a checkpoint is missing.
        """
        return {}

    def fits(self, vlm: VlmIdentity, point: CodecPoint) -> str:
        """Return ``""`` if it serves *vlm* behind *point*, or else why not, in a few words.

        What it does not serve is no cell of the grid, and is reported as not applicable.
        """
        return ""

    def is_seen(self, vlm: VlmIdentity, point: CodecPoint) -> bool | None:
        """Whether the training for *vlm* had this codec at this level; None without a training.

        Reports mark what was not seen.  Called where :meth:`fits` has no objection.
        """
        return None

    def remark(self, vlm: VlmIdentity) -> str:
        """Return what a reader of its results with *vlm* should know, or ``""``.

        Without a full stop; it is kept in the run and stands in the report.
        """
        return ""

    def picture(self, image: Image, condition: Condition) -> Image:
        """Return what the VLM is shown in place of the decoded *image*, as RGB."""
        return image

    def encoder(self, vision: VisionAccess) -> VisionEncoder | None:
        """Return what encodes in place of the VLM's own encoder; None to leave that in place.

        Called before the first answer.

        Args:
            vision: of the VLM, with frozen weights that others share.

        Raises:
            ConfigError: the checkpoint is of another VLM.
        """
        return None


@dataclass(frozen=True)
class TrainingPoint:
    """A codec at a level, to be trained on.

    Attributes:
        point: as in a run.
        build: returns the codec; picklable.
    """

    point: CodecPoint
    build: Callable[[], Codec]


@dataclass(frozen=True)
class TrainingPicture:
    """An image file to be trained on.

    Attributes:
        name: for messages.
        read: returns the content of the file; picklable.
        label: class of what it shows; ``""`` where its source knows none.
    """

    name: str
    read: Callable[[], bytes]
    label: str = ""


@dataclass(frozen=True)
class Training:
    """What a trainer is given.

    Attributes:
        vlm: the model; its weights are loaded when they are first needed.
        identity: of the model.
        points: codecs at their levels.
        pictures: to train on.
        validation: to validate on; none of them is among *pictures*.
        seed: of all that is random.
        folder: for states, the record of the training, and checkpoints; the same folder
            takes up where it was left.
        cache: a folder of bitstreams that trainings and runs share; None for one in *folder*.
    """

    vlm: Vlm
    identity: VlmIdentity
    points: Sequence[TrainingPoint]
    pictures: Sequence[TrainingPicture]
    validation: Sequence[TrainingPicture]
    seed: int
    folder: Path
    cache: Path | None = None


@dataclass(frozen=True)
class Trained:
    """What a training has made.

    Attributes:
        checkpoint: of the adaptor, a safetensors file whose header names method, VLM by
            hash, codec points, data and seed.
        codecs: checkpoints by level, where the method trains the codec as well.
    """

    checkpoint: Path
    codecs: Mapping[str, Path] = field(default_factory=dict)


class Trainer(ABC):
    """Trains an adaptor."""

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def train(self, training: Training) -> Trained:
        """Train, or go on with what is in the folder.

        Raises:
            ConfigError: options contradict each other, or the folder holds another training.
            RequirementError: the memory does not suffice.
        """
