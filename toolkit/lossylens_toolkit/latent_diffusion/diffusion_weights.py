"""Reading files of weights without running code that comes with them."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lossylens.errors import ConfigError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lossylens_toolkit.neural_codec.checkpoints import METADATA


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        state: tensors by name; those in dictionaries within the file's have its key and a
            dot before their name, unless it is ``state_dict``.
        about: what lossylens wrote about its own checkpoints; empty for others.
        metadata: of a file of safetensors.
    """

    state: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_weights(path: Path, prefixes: Iterable[str] = ("",)) -> Weights:
    """Return the tensors of a file of torch or safetensors whose names begin with *prefixes*.

    Files of torch are read with ``weights_only``.  Training frameworks leave objects of
    theirs beside the weights; in their place comes an object that does nothing.

    Raises:
        ConfigError: it cannot be read safely, or holds no tensors.
    """
    prefixes = tuple(prefixes)
    try:
        if path.suffix == ".safetensors":
            weights = _read_safetensors(path, prefixes)
        else:
            weights = Weights(_flat(_read_torch(path), prefixes))
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path}: holds objects other than tensors, which are not loaded for safety."
            " Save its state dict alone with torch.save, where you trust it."
        ) from error
    except (OSError, RuntimeError, SafetensorError, ValueError, EOFError, LookupError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path}: not a file of torch or safetensors: {reason}") from error
    if not weights.state:
        raise ConfigError(f"{path}: holds no weights" + _of(prefixes))
    return weights


def _of(prefixes: tuple[str, ...]) -> str:
    named = [prefix for prefix in prefixes if prefix]
    return f" under {' or '.join(named)}" if named else ""


class _Nothing:
    """What stands for an object of unknown class: it takes all and does nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def _read_torch(path: Path) -> Any:
    archive = zipfile.is_zipfile(path)
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path) if archive else []
    with torch.serialization.safe_globals([(_Nothing, name) for name in unknown]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)


def _flat(content: Any, prefixes: tuple[str, ...], before: str = "") -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    if not isinstance(content, Mapping):
        return state
    for key, value in content.items():
        name = f"{before}{key}"
        if isinstance(value, Tensor) and name.startswith(prefixes):
            state[name] = value
        elif isinstance(value, Mapping) and not before:
            inner = "" if key == "state_dict" else f"{key}."
            state |= _flat(value, prefixes, inner) if inner else _flat(value, prefixes)
    return state


def _read_safetensors(path: Path, prefixes: tuple[str, ...]) -> Weights:
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118
        state = {name: file.get_tensor(name) for name in names}
        metadata = file.metadata() or {}
    about = json.loads(metadata.get(METADATA, "{}"))
    if not isinstance(about, dict):
        raise ValueError("its metadata is malformed")
    return Weights(state, about, metadata)
