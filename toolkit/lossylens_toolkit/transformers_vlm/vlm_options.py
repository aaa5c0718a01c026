"""Options of VLMs built with this toolkit, and their requirement; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lossylens.errors import RequirementError
from lossylens.spec import MANDATORY, OPERATIONAL, Missing, path_if


def _is_folder(checkpoint: str) -> bool:
    return bool(checkpoint) and Path(checkpoint).expanduser().is_dir()


@dataclass
class VlmOptions:
    """Options that all models share.

    Attributes:
        checkpoint: hub id, looked up in the local hub cache, or a folder.
        device: ``auto`` (first GPU if there is one), ``cpu``, ``cuda``, ``cuda:N``, or
            ``all``: the layers are spread over all GPUs (needs accelerate).
        dtype: ``auto`` is bfloat16 on a GPU and float32 on a CPU.
        quantization: of the language model's weights; needs bitsandbytes or torchao.
        attention: ``auto`` leaves the kernel to PyTorch (flash where it can), ``math``
            is its plain reference.
        batch_images: images per batch; 0 is 32 on a GPU and 16 on a CPU.  Batches are
            cut smaller where the memory does not suffice.
        max_new_tokens: longest answer where a question sets no limit; 0 is the
            reference evaluator's setting for the model.
        preprocess_workers: processes that preprocess images ahead of the model; 0
            preprocesses in between, -1 is 4 with a GPU and 0 without.
    """

    checkpoint: str = field(default=MANDATORY, metadata=path_if(_is_folder))
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "bnb-int8", "bnb-nf4", "torchao-int8"] = "none"
    attention: Literal["auto", "math"] = "auto"
    batch_images: int = field(default=0, metadata=OPERATIONAL)
    max_new_tokens: int = 0
    preprocess_workers: int = field(default=-1, metadata=OPERATIONAL)


@dataclass
class Qwen25Options(VlmOptions):
    """Options of Qwen2.5-VL.

    Attributes:
        min_pixels: smaller images are scaled up to this; None is the reference
            evaluator's setting, which depends on the task.
        max_pixels: larger images are scaled down to this; None as above.
        system: system prompt; None is the model's default, ``""`` none at all.
        own_box_wording: whether boxes are asked for in the words of the model's training;
            the reference evaluator asks all models alike.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None
    system: str | None = None
    own_box_wording: bool = False


@dataclass
class InternVLOptions(VlmOptions):
    """Options of InternVL3.

    Attributes:
        max_tiles: an image is cut into so many tiles at most, thumbnail not counted;
            None is the reference evaluator's setting, which depends on the task.  Several
            images share 64.
        system: system prompt; None is the model's default, ``""`` none at all.
    """

    max_tiles: int | None = None
    system: str | None = None


@dataclass
class JanusOptions(VlmOptions):
    """Options of Janus-Pro."""


@dataclass
class LlavaOptions(VlmOptions):
    """Options of LLaVA-1.5.

    Attributes:
        short_answers: whether yes-no questions ask for a single word or phrase, as LLaVA's
            own scripts do; the reference evaluator asks them as they are.
        own_box_wording: whether boxes are asked for in the words of the model's training;
            the reference evaluator asks all models alike.
    """

    short_answers: bool = False
    own_box_wording: bool = False


@dataclass
class LlavaOnevisionOptions(VlmOptions):
    """Options of LLaVA-OneVision.

    Attributes:
        max_tiles: an image is cut into so many tiles at most, the picture of the whole not
            counted; None is as many as the checkpoint says, 0 leaves one picture of the
            whole, padded to a square.  Several images have that one picture each.
    """

    max_tiles: int | None = None


def needs_gpus(cards: int = 1) -> Callable[[VlmOptions], float]:
    """Return what says how many GPUs of 80 GB a model needs, for ``VlmSpec.gpus``.

    Args:
        cards: over which its weights in bfloat16 are spread by ``device: all``.
    """

    def needed(options: VlmOptions) -> float:
        if options.device == "all":
            return cards
        # Which one it uses, a user who names it has decided.
        return 1 if options.device in ("auto", "cuda") else 0

    return needed


def needs_checkpoint(gigabytes: float) -> Callable[[VlmOptions], Sequence[Missing]]:
    """Return the requirement check of a model whose download has *gigabytes*."""

    def missing(options: VlmOptions) -> Sequence[Missing]:
        # Imported here: plugins are listed without it.
        from lossylens_toolkit.transformers_vlm import checkpoint

        try:
            checkpoint.weight_files(checkpoint.find(options.checkpoint))
        except RequirementError as error:
            return (checkpoint.lacking(options.checkpoint, gigabytes, error),)
        return ()

    return missing
