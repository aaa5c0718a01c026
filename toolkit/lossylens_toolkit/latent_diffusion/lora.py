"""Low-rank updates of weights, merged into them.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, in the names
that peft gives them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lossylens.errors import ConfigError
from torch import Tensor

_UPDATE = re.compile(r"(.*)\.lora_([AB])\.[^.]+\.weight")


def merged(
    state: Mapping[str, Tensor],
    targets: re.Pattern[str],
    alpha: float,
    *,
    required: bool = False,
) -> dict[str, tuple[str, Tensor]]:
    """Return by plain name what *state* holds: official name, and the updated weight.

    Args:
        state: weights, those with updates as ``X.base_layer.weight`` or plainly as
            ``X.weight``, and updates, as ``X.lora_A.NAME.weight`` and ``X.lora_B...``.
        targets: of the names of all modules that must have an update, if any has one.
        alpha: by which updates are multiplied, divided by their rank.
        required: whether there must be updates.

    Raises:
        ConfigError: an update lacks a half, or is of a module that should have none.
    """
    updates: dict[str, dict[str, Tensor]] = {}
    result: dict[str, tuple[str, Tensor]] = {}
    for name, value in state.items():
        found = _UPDATE.fullmatch(name)
        if found:
            updates.setdefault(found[1], {})[found[2]] = value
        else:
            result[name.replace(".base_layer.", ".")] = (name, value)
    modules = {name.removesuffix(".weight") for name in result if name.endswith(".weight")}
    expected = {name for name in modules if targets.search(name)} if updates or required else set()
    wrong = sorted(expected ^ updates.keys())
    wrong += sorted(name for name, halves in updates.items() if len(halves) != 2)
    if wrong:
        rest = ", ..." if len(wrong) > 3 else ""
        raise ConfigError(
            "the checkpoint is of another architecture, nothing was loaded: low-rank updates"
            f" of {len(wrong)} modules are absent or unknown ({', '.join(wrong[:3])}{rest})"
        )
    for name, halves in updates.items():
        official, weight = result[f"{name}.weight"]
        result[f"{name}.weight"] = (official, _updated(official, weight, halves, alpha))
    return result


def _updated(name: str, weight: Tensor, halves: Mapping[str, Tensor], alpha: float) -> Tensor:
    down, up = halves["A"], halves["B"]
    rank = down.shape[0]
    fits = down.shape[1:] == weight.shape[1:] and up.shape[:2] == (weight.shape[0], rank)
    if not fits or up[0, 0].numel() != 1:
        raise ConfigError(f"the low-rank update of {name} does not fit its weight")
    update = up.reshape(-1, rank).float() @ down.reshape(rank, -1).float()
    return weight + (alpha / rank * update).reshape(weight.shape).to(weight.dtype)
