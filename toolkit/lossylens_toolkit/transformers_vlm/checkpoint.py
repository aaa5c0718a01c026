"""Where a checkpoint is, whether it is whole, and how large; imports no torch.

Only safetensors are read: loading them runs no code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from math import prod
from pathlib import Path
from typing import Any

from lossylens.errors import RequirementError
from lossylens.spec import FileSource, Missing

from lossylens_toolkit.checkpoint_file import Kind, kind, safetensors_header
from lossylens_toolkit.checksums import file_checksums

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"

#: Files of which one of each line is needed besides weights.
_NEEDED = (
    ("config.json",),
    ("tokenizer.json", "vocab.json"),
    ("preprocessor_config.json", "processor_config.json"),
)


#: Entry points of packages that bring a checkpoint: a short name, and the module whose
#: ``WEIGHTS`` is its folder.
GROUP = "lossylens.checkpoints"


def find(checkpoint: str) -> Path:
    """Return the folder of *checkpoint*.

    It is the checkpoint of an installed package by its short name, such as ``nano-clip``, the
    folder itself, or its snapshot in the hub's cache.  Nothing is downloaded.

    Raises:
        RequirementError: there is none.
    """
    for entry in entry_points(group=GROUP, name=checkpoint):
        return Path(entry.load().WEIGHTS)
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    if not _is_hub_id(checkpoint):
        raise RequirementError(f"there is no folder {folder}")
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(checkpoint, "config.json")
    if not isinstance(config, str):
        raise RequirementError(f"checkpoint {checkpoint} is not in the local hub cache")
    return Path(config).parent


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and ".." not in name


def remedy(checkpoint: str, gigabytes: float, option: str = "checkpoint") -> str:
    """Return how to get *checkpoint*, whose download has *gigabytes*.

    Args:
        checkpoint: hub id or folder.
        gigabytes: of its download.
        option: that names it.
    """
    elsewhere = f"or set the option {option} to its folder"
    if not _is_hub_id(checkpoint):
        return f"set the option {option} to the folder of a checkpoint in safetensors"
    return f"hf download {checkpoint} ({gigabytes:g} GB), {elsewhere}"


def lacking(
    checkpoint: str,
    gigabytes: float,
    reason: RequirementError,
    option: str = "checkpoint",
    licence: str = "",
) -> Missing:
    """Return what a plugin says whose *checkpoint* is not there, or not whole.

    Args:
        checkpoint: hub id or folder.
        gigabytes: of its download.
        reason: what :func:`find` or :func:`weight_files` raised.
        option: of the plugin, that names it.
        licence: where it is not in the licence of the plugin.
    """
    source = FileSource(f"hf:{checkpoint}", gigabytes=gigabytes, licence=licence)
    return Missing(
        str(reason),
        remedy(checkpoint, gigabytes, option),
        source if _is_hub_id(checkpoint) else None,
    )


def weight_files(folder: Path, needed: Sequence[Sequence[str]] = _NEEDED) -> list[Path]:
    """Return the weight files of a checkpoint that is whole.

    Args:
        folder: of the checkpoint.
        needed: files of which one of each group must be there besides weights.

    Raises:
        RequirementError: a file is missing, cut off or broken; the message names it.
    """
    check_needed(folder, needed)
    files = [folder / name for name in _weight_names(folder)]
    for path in files:
        if not path.exists():
            raise RequirementError(f"{folder} is incomplete: {path.name} is missing")
        check_file(path, "safetensors")
    return files


def check_needed(folder: Path, needed: Sequence[Sequence[str]] = _NEEDED) -> None:
    """Make sure that of each group of files one is in *folder*.

    Raises:
        RequirementError: none is; the message names them.
    """
    for names in needed:
        if not any((folder / name).is_file() for name in names):
            raise RequirementError(f"{folder} holds no {' or '.join(names)}")


def check_file(path: Path, expected: Kind) -> None:
    """Refuse a weight file that is cut off, damaged, or of another kind.

    Raises:
        RequirementError: it is; the message names it.
    """
    found = kind(path)
    if found != expected:
        raise RequirementError(f"{path}: no {expected} file, but one of kind {found}")


def _weight_names(folder: Path) -> list[str]:
    if (folder / _SINGLE).is_file():
        return [_SINGLE]
    if not (folder / _INDEX).is_file():
        hint = ""
        if any(folder.glob("*.bin")):
            hint = "; its .bin files are pickles, which are never loaded"
        raise RequirementError(f"{folder} holds no {_SINGLE} or {_INDEX}{hint}")
    index = read_json(folder / _INDEX)
    shards = index.get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else set()
    # A name with a folder in it could be any file of this machine.
    if not names or not all(isinstance(name, str) and _is_file_name(name) for name in names):
        raise RequirementError(f"{folder / _INDEX} names no weight files")
    return sorted(names)


def _is_file_name(name: str) -> bool:
    return name == Path(name).name != ""


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in *path*.

    Raises:
        RequirementError: it cannot be read, or is none.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RequirementError(f"{path} is damaged: its JSON cannot be read")
    return found


def parameters(files: Sequence[Path]) -> int:
    """Return how many numbers the weights of *files* hold."""
    return sum(prod(each["shape"]) for path in files for each in safetensors_header(path).values())


def model_type(folder: Path) -> str:
    """Return the architecture that a checkpoint's configuration names."""
    path = folder / "config.json"
    return str(read_json(path).get("model_type", ""))


def read_part(folder: Path, loader: Any) -> Any:
    """Return a tokenizer, image processor or configuration of a checkpoint.

    Args:
        folder: of the checkpoint.
        loader: a class of transformers.

    Raises:
        RequirementError: its files cannot be read.
    """
    try:
        return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # The tokenizers' library knows no other error.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RequirementError(
            f"{folder}: the files of the {loader.__name__} cannot be read; get them again: {reason}"
        ) from error


def fingerprint(files: Sequence[Path]) -> Mapping[str, str]:
    """Return the SHA-256 of each weight file, by name.

    Files in the hub's cache are named by it; of others it is remembered, see
    :mod:`lossylens_toolkit.checksums`.
    """
    return {path.name: _hash(path) for path in files}


def _hash(path: Path) -> str:
    named = path.resolve().name
    if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", named):
        return named
    return file_checksums(path, "sha256")["sha256"]
