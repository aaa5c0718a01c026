"""Whether a checkpoint of CLIP is here, and whole; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossylens.errors import RequirementError
from lossylens.spec import Missing

from lossylens_toolkit.checkpoint_file import kind
from lossylens_toolkit.transformers_vlm import checkpoint

#: CLIP whose image encoder is that of LLaVA-1.5.
LARGE_336 = "openai/clip-vit-large-patch14-336"

#: Gigabytes of each of the published files of ViT-L/14.
LARGE_SIZE = 1.7

#: Of OpenAI's code; its pages on the hub name none for the weights.
LICENCE = "MIT (OpenAI's CLIP)"

#: The only file of weights of some published checkpoints that PyTorch reads.
_TORCH = "pytorch_model.bin"


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a CLIP checkpoint that is whole.

    Safetensors are preferred; of PyTorch's files nothing but tensors is read.

    Raises:
        RequirementError: a file is missing, cut off or broken; the message names it.
    """
    if (folder / _TORCH).is_file() and not any(folder.glob("*.safetensors*")):
        checkpoint.check_needed(folder)
        kind(folder / _TORCH)
        return [folder / _TORCH]
    return checkpoint.weight_files(folder)


def missing(name: str, gigabytes: float = LARGE_SIZE, option: str = "clip") -> Sequence[Missing]:
    """Return what of a checkpoint is not here, for the requirements of a plugin.

    Args:
        name: hub id or folder.
        gigabytes: of its download.
        option: of the plugin, that names it.
    """
    try:
        weight_files(checkpoint.find(name))
    except RequirementError as error:
        licence = LICENCE if name.startswith("openai/") else "see its page"
        return (checkpoint.lacking(name, gigabytes, error, option, licence),)
    return ()
