"""How much memory a step of a training takes, before the first one is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from lossylens.errors import RequirementError
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from lossylens_toolkit.transformers_vlm.memory import free_memory

#: What AdamW holds for each parameter beside its weight: gradient and two moments, in float32.
_ADAMW = 3 * 4

#: Activations are those of one picture many times over, and pictures differ in size.
_HEADROOM = 0.1


def saved_bytes(compute: Callable[[], object], module: nn.Module) -> int:
    """Return the bytes that autograd keeps of *compute* for its gradient.

    Args:
        compute: is run once; what it returns is dropped.
        module: whose weights do not count: they are there anyway.
    """
    own = {each.untyped_storage().data_ptr() for each in module.parameters()}
    found: dict[int, int] = {}
    # Kept, so that no storage is freed and its address taken by another.
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.random.fork_rng(), saved_tensors_hooks(note, lambda tensor: tensor):
        compute()
    return sum(found.values())


def check_memory(
    parameters: Iterable[nn.Parameter], activations: int, device: torch.device, remedy: str
) -> str:
    """Return in words what a training takes beside the weights that are loaded.

    Args:
        parameters: that are trained, with AdamW.
        activations: bytes of a step.
        device: where they are.
        remedy: what makes it less.

    Raises:
        RequirementError: it does not fit into what is free.
    """
    states = _ADAMW * sum(each.numel() for each in parameters if each.requires_grad)
    need, free = (states + activations) * (1 + _HEADROOM), free_memory(device)
    told = (
        f"{states / 1e9:.2f} GB for gradients and AdamW, {activations / 1e9:.2f} GB for what a"
        f" step keeps for its gradient; {device} has {free / 1e9:.1f} GB free"
    )
    if need > free:
        raise RequirementError(f"the memory does not suffice: {told}; {remedy}")
    return told
