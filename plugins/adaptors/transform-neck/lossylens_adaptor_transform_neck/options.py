"""Options of the adaptor and of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lossylens.spec import Missing
from lossylens_toolkit.training.adaptor_options import AdaptorTrainingOptions
from lossylens_toolkit.training.training_options import DEVICES, one_of

#: Endings of a neck's file; the second is that of the authors' release.
SUFFIXES = (".safetensors", ".pth.tar", ".pth")

#: Necks of the package, for the VLM ``nano-llava`` behind ELIC's nano checkpoints; see
#: ``nano_llava.yaml`` beside it.
BUNDLED = Path(__file__).with_name("nano")

#: Folders of a training with other checkpoints.
_BESIDE = {"codec", "states"}


@dataclass
class NeckOptions:
    """Options of ``transform-neck`` in a run.

    Attributes:
        checkpoints: files, or folders of them, one for each codec and level: those that
            ``lossylens train adaptor transform-neck`` wrote, or of the authors' release
            (``d1_1.pth.tar``); by default those of the package, which are for the VLM
            ``nano-llava`` behind codec ``elic``, ``variant: nano``, ``square: {side: 192}``.
        latents: which the neck gets: ``true``, or, to see what it makes of them, those of the
            same picture in random order (``shuffled``), which still say what is in it, those
            of some other picture (``other``), its own given to the neck of another level
            (``wrong``), or zeros, which are of no picture (``none``).
    """

    checkpoints: list[Path] = field(default_factory=list)
    latents: Literal["true", "shuffled", "other", "wrong", "none"] = "true"

    def files(self) -> list[Path]:
        """Return the files of all necks that are there, in the order of their names."""
        return inside(self.checkpoints or [BUNDLED])


def inside(paths: Sequence[Path]) -> list[Path]:
    """Return *paths* with the checkpoints of folders, by name, in the place of these.

    What trainings leave beside them, states and codecs, is left out.
    """
    found: list[Path] = []
    for path in paths:
        known = sorted(each for each in path.rglob("*") if each.name.endswith(SUFFIXES))
        own = [each for each in known if not _BESIDE & set(each.relative_to(path).parts)]
        found += own if path.is_dir() else [path]
    return found


def missing(options: NeckOptions) -> Sequence[Missing]:
    """Return the files that are not there."""
    return _missing(options.files(), "transform-neck")


def _missing(files: Sequence[Path], method: str) -> Sequence[Missing]:
    remedy = f"train it with `lossylens train adaptor {method} CONFIG`"
    if not files:
        return (Missing("checkpoints", f"{remedy}, and name it in the option checkpoints"),)
    absent = (path for path in files if not path.is_file())
    return tuple(Missing(f"checkpoint {path}", remedy) for path in absent)


@dataclass
class ClassOptions:
    """What the cross-entropy classifies: pictures in folders that are named as their class.

    Attributes:
        clip: checkpoint of the CLIP whose image encoder is the VLM's, hub id or folder; empty
            for no classification, and distillation alone.
        templates: texts with ``{}`` in the place of the class's name; empty for CLIP's 80.
        logits: what classes are told apart by: ``embedding``, the product of the class
            vectors and the embedding as it is, as the authors' code has it; ``clip``, cosines
            times CLIP's scale; ``cosine``, as the paper has it, under which the loss of 1000
            classes stays between 4.9 and 6.9.
    """

    clip: str = ""
    templates: list[str] = field(default_factory=list)
    logits: Literal["embedding", "clip", "cosine"] = "embedding"


@dataclass
class JointOptions:
    """Phase 2: the codec is trained as well.

    The loss is rate + multiplier * (gamma * MSE + delta * distillation), the MSE of samples in
    0..1; in d3 without the MSE.  The paper gives gamma : delta = 60 : 1 and no multiplier.

    Attributes:
        multiplier: of the distortions; null for m * 255^2 / gamma with the multiplier m of
            the codec's checkpoint, for MSE of samples in 0..255, so that the codec's own
            trade-off of rate and distortion stays.
        gamma: of the MSE, for d2.
        delta: of the distillation.
        codec_rate: learning rate of the codec, as a multiple of the neck's.
    """

    multiplier: float | None = None
    gamma: float = 60.0
    delta: float = 1.0
    codec_rate: float = 0.1


@dataclass
class FeatureTrainingOptions(AdaptorTrainingOptions):
    """Options that the trainings of neck and U-Net share, section ``training``.

    Attributes:
        match: what is matched with the VLM's own: ``tokens``, hidden states of patches where
            the encoder ends that the VLM reads; ``features``, what enters the language model;
            ``cls``, CLIP's embedding of the picture, as the authors' code has it.
        scaled: whether each channel of what is matched is divided by its standard deviation in
            originals first, so that the few channels of large states that encoders have do not
            decide all; the authors do not.
        stages: with classes, shares of the steps at which classification alone ends and at
            which distillation alone begins; [0, 0] for distillation, [1, 1] for
            classification all along.
        later_rate: with classes, learning rate from the end of the first stage on, as a share.
        distillation: with classes, weight of the distillation.
        classes: what the cross-entropy classifies.

    Raises:
        ValueError: a value out of range.
    """

    steps: int = 200_160
    batch: int = 32
    clean: float = 0.0
    weight_decay: float = 0.0
    warmup: int = 0
    decay: float = 0.0
    match: Literal["tokens", "features", "cls"] = "tokens"
    scaled: bool = True
    stages: list[float] = field(default_factory=lambda: [1 / 3, 2 / 3])
    later_rate: float = 0.1
    distillation: float = 100.0
    classes: ClassOptions = field(default_factory=ClassOptions)

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.clean or self.variants != 1:
            raise ValueError("clean must be 0 and variants 1: each picture is compressed once")
        if len(self.stages) != 2 or not 0 <= self.stages[0] <= self.stages[1] <= 1:
            raise ValueError(f"stages takes two ascending shares, 0 to 1, got {self.stages}")
        for name in ("later_rate", "distillation"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number above 0, got {getattr(self, name)}")
        classes: ClassOptions | Mapping[str, object] = self.classes
        if self.match == "cls" and isinstance(classes, ClassOptions) and not classes.clip:
            raise ValueError("match: cls needs classes.clip, whose embedding is matched")


@dataclass
class NeckTrainingOptions(FeatureTrainingOptions):
    """Options of ``lossylens train adaptor transform-neck``; the others are shared.

    Attributes:
        phase: ``d1``, a neck for the codec as it is; ``d2``, neck and codec together for
            rate, pictures and features; ``d3``, neck, encoder and entropy model for rate and
            features alone, whose pictures are of no use.
        start: neck to begin with: in d1 one of any level, in d2 and d3 that of phase 1.
        entry: layer of the vision encoder that the neck's output enters.
        blocks: transformer blocks of the neck.
        hidden: width inside their feed-forward networks; null for four times the encoder's.
        joint: of d2 and d3.

    Raises:
        ValueError: a value out of range.
    """

    phase: Literal["d1", "d2", "d3"] = "d1"
    start: Path | None = None
    entry: int = 2
    blocks: int = 1
    hidden: int | None = None
    joint: JointOptions = field(default_factory=JointOptions)

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.entry < 0 or self.blocks < 1:
            raise ValueError("entry must not be negative, and blocks at least 1")
        if self.hidden is not None and self.hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {self.hidden}")
        if self.phase != "d1" and self.start is None:
            raise ValueError(f"phase {self.phase} needs start, the neck of phase 1")
        joint: JointOptions | Mapping[str, object] = self.joint
        if isinstance(joint, JointOptions):
            for name in ("multiplier", "gamma", "delta", "codec_rate"):
                value = getattr(joint, name)
                if value is not None and not 0 < value < float("inf"):
                    raise ValueError(f"joint.{name} must be a number above 0, got {value}")


@dataclass
class PostOptions:
    """Options of ``post-processing`` in a run.

    Attributes:
        checkpoints: files, or folders of them, one for each codec and level, that
            ``lossylens train adaptor post-processing`` wrote.
        device: of the network, ``auto`` or ``cpu``.
    """

    checkpoints: list[Path] = field(default_factory=list)
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check the values."""
        one_of("device", self.device, DEVICES)

    def files(self) -> list[Path]:
        """Return the files that are there, in the order of their names."""
        return inside(self.checkpoints)


def missing_post(options: PostOptions) -> Sequence[Missing]:
    """Return the files that are not there."""
    return _missing(options.files(), "post-processing")


@dataclass
class PostTrainingOptions(FeatureTrainingOptions):
    """Options of ``lossylens train adaptor post-processing``; the others are shared.

    Attributes:
        channels: of the U-Net's first level.

    Raises:
        ValueError: a value out of range.
    """

    channels: int = 64

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")
