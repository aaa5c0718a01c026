"""Weights of checkpoints that are not in the layout of transformers, by their official names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lossylens.errors import RequirementError
from torch import Tensor

from lossylens_toolkit.checkpoint_file import load


def read_weights(
    files: Sequence[Path],
    shapes: Mapping[str, tuple[int, ...]],
    model: str,
    passed_over: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint, each of which must be there, fit, and be known.

    They stay on disk until they are used, where that is possible.

    Args:
        files: of the weights, in either format.
        shapes: of all tensors, by name.
        model: what messages call it.
        passed_over: ends of names that files may hold and that are no weights.

    Raises:
        RequirementError: a file is damaged or holds anything but tensors, or a tensor is
            missing, of the wrong shape or unknown.
    """
    found: dict[str, Tensor] = {}
    for path in files:
        for name, tensor in _tensors(path):
            if name.endswith(passed_over) and name not in shapes:
                continue
            if name not in shapes or name in found:
                what = "twice" if name in found else f"which {model} has not"
                raise RequirementError(f"{path} holds {name}, {what}")
            if tuple(tensor.shape) != shapes[name]:
                shape = tuple(tensor.shape)
                raise RequirementError(f"{path}: {name} is {shape}, not {shapes[name]}")
            found[name] = tensor
    if lacking := sorted(shapes.keys() - found.keys()):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise RequirementError(f"the weights in {files[0].parent} lack {lacking[0]}{more}")
    return found


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    held = load(path, mmap=True).content
    if not isinstance(held, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in held.items()
    ):
        raise RequirementError(f"{path} is not a mapping from names to tensors")
    yield from held.items()
