"""Low-rank changes of an encoder (LoRA, arXiv:2106.09685): trained by peft, merged when loaded.

A checkpoint holds, for each linear map ``NAME`` of the encoder's layers, ``NAME.a`` ``(rank,
in)`` and ``NAME.b`` ``(out, rank)``; the weight is changed by ``alpha / rank * b @ a``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from lossylens.errors import ConfigError, RequirementError
from torch import Tensor, nn

#: A linear map within one of a list of layers.
_IN_A_LAYER = re.compile(r"^encoder\..*\.\d+\.")

_TRAINED = re.compile(r"^(?P<map>.+)\.lora_(?P<part>[AB])\.default\.weight$")


def begin_lora(encoder: nn.Module, rank: int, alpha: float) -> None:
    """Freeze *encoder* and put changes beside its linear maps, which begin at zero.

    Args:
        encoder: a module as :attr:`~lossylens.vlm.VisionAccess.trainable`.
        rank: of the changes.
        alpha: their scale, times the rank.

    Raises:
        RequirementError: peft is not installed.
        ConfigError: the encoder has no linear maps in its layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise RequirementError(
            "training.lora needs peft: pip install 'lossylens-adaptor-cve[lora]'"
        ) from error
    maps = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and _IN_A_LAYER.match(name)
    ]
    if not maps:
        raise ConfigError("training.lora: this encoder has no linear maps in its layers")
    encoder.requires_grad_(False)
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=maps),  # type: ignore[arg-type]
        encoder,
    )


def lora_changes(encoder: nn.Module) -> dict[str, Tensor]:
    """Return the changes of an encoder that :func:`begin_lora` began."""
    found: dict[str, Tensor] = {}
    for name, value in encoder.named_parameters():
        if match := _TRAINED.match(name):
            found[f"{match['map']}.{match['part'].lower()}"] = value
    return found


@torch.no_grad()
def merge_lora(encoder: nn.Module, changes: Mapping[str, Tensor], scale: float) -> None:
    """Add changes to the weights of an encoder.

    Args:
        encoder: a clone as it was copied.
        changes: see the module.
        scale: alpha divided by the rank.

    Raises:
        ConfigError: a map is not there, or has another shape; nothing is changed then.
    """
    modules = dict(encoder.named_modules())
    merged: list[tuple[Tensor, Tensor]] = []
    for name in sorted({each.rpartition(".")[0] for each in changes}):
        module = modules.get(name)
        parts = changes.get(f"{name}.b"), changes.get(f"{name}.a")
        if parts[0] is None or parts[1] is None or not isinstance(module, nn.Linear):
            raise ConfigError(f"the checkpoint changes {name}, which this encoder has not")
        change = scale * (parts[0].float() @ parts[1].float())
        if change.shape != module.weight.shape:
            raise ConfigError(f"the checkpoint changes {name} in another shape")
        merged.append((module.weight, change))
    for weight, change in merged:
        weight += change.to(weight)
