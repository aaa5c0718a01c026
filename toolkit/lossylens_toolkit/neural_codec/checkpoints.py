"""Reading, writing and loading of checkpoints."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lossylens.errors import ConfigError
from torch import Tensor, nn

from lossylens_toolkit.checkpoint_file import CheckpointFileError, load

#: Key of a safetensors file's metadata under which lossylens describes its own checkpoints.
METADATA = "lossylens"

_WRAPPERS = ("state_dict", "model_state_dict", "network", "model", "net")

#: Buffers that follow from the parameters or the architecture; they are computed anew.
_DERIVED = re.compile(
    r"(^|\.)(_offset|_quantized_cdf|_cdf_length|scale_table|scale_bound|target|mask"
    r"|relative_position_index|attn_mask|bound|pedestal)$"
)

#: CompressAI before 1.2.4 spelt the lists of an entropy bottleneck out.
_BOTTLENECK = re.compile(r"(^|\.)_(matri|bias|factor)(x|)(\d+)$")
_LISTS = {"matri": "matrices", "bias": "biases", "factor": "factors"}

_SHOWN = 3


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        state: parameters by official name.
        about: what lossylens wrote about its own checkpoints: ``codec``, ``level``
            and ``config``, the arguments of the network's ``build``; empty for
            official ones.
        args: the training's arguments, where an official file holds them as ``args``.
    """

    state: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the content of a file of torch or safetensors.

    Raises:
        ConfigError: it cannot be read safely, or holds no parameters.
    """
    try:
        # Mapped into memory, what is not used, such as an optimiser's state, is never read.
        loaded = load(path, mmap=True)
    except CheckpointFileError as error:
        raise ConfigError(str(error)) from error
    try:
        about = json.loads(loaded.metadata.get(METADATA, "{}"))
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise ConfigError(f"{path}: its metadata is malformed")
    return Checkpoint(_parameters(loaded.content, path), about, _arguments(loaded.content))


def write_checkpoint(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write parameters in official names, with what :attr:`Checkpoint.about` is to say."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, path, metadata={METADATA: json.dumps(dict(about), sort_keys=True)})


def _arguments(content: Any) -> Mapping[str, Any]:
    args = content.get("args") if isinstance(content, Mapping) else None
    return args if isinstance(args, Mapping) else {}


def _parameters(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: holds no state dict")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise ConfigError(f"{path}: holds no parameters")
    return modern_names(state)


def modern_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return *state* without DataParallel's ``module.``, with today's bottleneck names."""
    return {_modern(name): value for name, value in state.items()}


def _modern(name: str) -> str:
    name = re.sub(r"(^|\.)module\.", r"\1", name)
    return _BOTTLENECK.sub(lambda found: f"{found[1]}{_LISTS[found[2]]}.{found[4]}", name)


def parameters(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of *network* by its own names."""
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def load_parameters(
    network: nn.Module,
    state_dict: Mapping[str, Tensor],
    strict: bool = True,
    *,
    rename: Callable[[str], str] = lambda name: name,
    official: Callable[[str], str] = lambda name: name,
) -> None:
    """Copy *state_dict* into the parameters of *network* and compute its tables anew.

    Args:
        network: whose ``update(force=True)`` computes the tables.
        state_dict: by official name; tables and other buffers that follow from the
            rest are ignored.
        strict: whether each parameter must be there and no other.
        rename: official name to the network's.
        official: the network's name to the official one, for messages.

    Raises:
        ConfigError: names or shapes differ; nothing is loaded then.
    """
    given = {
        rename(name): (name, value)
        for name, value in modern_names(state_dict).items()
        if not _DERIVED.search(name)
    }
    own = dict(network.named_parameters())
    _refuse_differences(own, given, strict, official)
    with torch.no_grad():
        for name, (_, value) in given.items():
            if name in own:
                own[name].copy_(value)
    network.update(force=True)  # type: ignore[operator]


def _refuse_differences(
    own: Mapping[str, Tensor],
    given: Mapping[str, tuple[str, Tensor]],
    strict: bool,
    official: Callable[[str], str],
) -> None:
    reasons = []
    if strict:
        absent = sorted(official(name) for name in own.keys() - given.keys())
        reasons.append(_listed("absent", absent))
        unknown = sorted(given[name][0] for name in given.keys() - own.keys())
        reasons.append(_listed("unknown", unknown))
    shapes = [
        f"{found} {_shape(value)} instead of {_shape(own[name])}"
        for name, (found, value) in given.items()
        if name in own and value.shape != own[name].shape
    ]
    reasons.append(_listed("of another shape", shapes))
    listed = "; ".join(reason for reason in reasons if reason)
    if listed:
        raise ConfigError(
            f"the checkpoint is of another architecture, nothing was loaded: {listed}"
        )


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{rest})"


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
