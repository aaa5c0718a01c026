"""The files of an official checkpoint, and whether they are whole; imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lossylens.errors import RequirementError
from lossylens_toolkit.transformers_vlm.checkpoint import check_file, weight_files

TOKENS = "qwen.tiktoken"
CONFIG = "config.json"
TOKENIZER_CODE = "tokenization_qwen.py"

_INDEX = "pytorch_model.bin.index.json"
_SINGLE = "pytorch_model.bin"


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint that is whole.

    Safetensors are preferred; the published shards are PyTorch's zip files, from
    which nothing but tensors is read.

    Raises:
        RequirementError: a file is missing, cut off or broken; the message names it.
    """
    for name in (CONFIG, TOKENS):
        if not (folder / name).is_file():
            raise RequirementError(f"{folder} holds no {name}")
    names = _bin_names(folder)
    if any(folder.glob("*.safetensors")) or not names:
        return weight_files(folder, needed=())
    for name in names:
        path = folder / name
        if not path.exists():
            raise RequirementError(f"{folder} is incomplete: {name} is missing")
        check_file(path, "zip")
    return [folder / name for name in names]


def _bin_names(folder: Path) -> list[str]:
    if (folder / _SINGLE).is_file():
        return [_SINGLE]
    path = folder / _INDEX
    if not path.is_file():
        return []
    shards = read_json(path).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else set()
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise RequirementError(f"{path} names no weight files")
    return sorted(names)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in *path*.

    Raises:
        RequirementError: it cannot be read, or is none.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RequirementError(f"{path} cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise RequirementError(f"{path} holds no JSON object")
    return found
