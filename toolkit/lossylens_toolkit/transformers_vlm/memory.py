"""How much fits into memory at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from lossylens_toolkit.transformers_vlm.engine import Prompts, Shown
    from lossylens_toolkit.transformers_vlm.family import Family
    from lossylens_toolkit.transformers_vlm.vision_inputs import Layout

#: Share of the free memory that a batch may take; estimates are rough and memory is
#: fragmented.
_SHARE = 0.6

#: Beyond this, more at once makes a CPU slower: it falls out of the caches.
_CPU_BYTES = 2 * 2**30

#: Patches that a CPU encodes at a time: the hidden states of more fall out of its caches.
_CPU_PATCHES = 1024

#: Answers are mostly short; a batch of long ones is halved when it does not fit.
_ANSWER_TOKENS = 64


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be had on *device*."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch holds and does not use it will use first.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    return int(psutil.virtual_memory().available)


class MemoryBudget:
    """Decides how much is done at once.

    The need of a batch is estimated from shapes; where the estimate was too low, the
    batch is halved and later ones stay that small.

    Args:
        family: the model.
        bytes_at_once: most bytes to use; by default a share of what is free.
    """

    def __init__(self, family: Family, bytes_at_once: int | None = None) -> None:
        self._family = family
        self._fixed = bytes_at_once
        self._ceiling: float = float("inf")
        self._most_patches: float = float("inf")
        config = family.config
        heads = config.num_attention_heads
        shared = getattr(config, "num_key_value_heads", None) or heads
        head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
        # Of the embedding, since quantised layers hold bytes and compute in this format.
        self._item = next(family.embedding.parameters()).element_size()
        self._cached = 2 * config.num_hidden_layers * shared * head_width * self._item
        # Residual, norm, queries and the three parts of the gated MLP live at a time.
        self._active = (6 * config.hidden_size + 3 * config.intermediate_size) * self._item
        self._heads, self._vocabulary = heads // shared, config.vocab_size
        # Width 1 times 4 in the MLP, twice for gates, and the attention's own.
        self._visual = 16 * family.tower.width * 4

    def need(self, group: Sequence[Prompts]) -> int:
        """Return roughly how many bytes *group* takes beside the weights."""
        prefixes = [self._prefix(item) for item in group]
        prefix = max(prefixes)
        asked = [sum(len(row.suffix) for row in item.rows) for item in group]
        rows = sum(len(item.rows) for item in group)
        lines = sum(1 + tokens // own for tokens, own in zip(asked, prefixes, strict=True))
        longest = min(max(asked), prefix)
        answers = max(len(item.rows) for item in group) * _ANSWER_TOKENS
        tokens = lines * (prefix + longest + min(answers, 4 * prefix))
        mask = lines * longest * (prefix + longest) * (1 + self._heads * self._item)
        shown = {each.key: each for item in group for each in item.shown}
        portions = self.encoded_at_once(list(shown.values()))
        patches = max(sum(map(self._patches, portion)) for portion in portions)
        at_once = max(len(group) * prefix, lines * longest) * self._active
        logits = rows * self._vocabulary * (self._item + 4)
        return tokens * self._cached + at_once + mask + logits + patches * self._visual

    def allows(self, group: Sequence[Prompts]) -> bool:
        """Return whether *group* fits."""
        return self.need(group) <= min(self._ceiling, self._available())

    def encoded_at_once(self, shown: Sequence[Shown]) -> Iterator[Sequence[Shown]]:
        """Yield images in the portions in which they are best encoded."""
        most: float = _CPU_PATCHES
        if self._family.tower.device.type != "cpu":
            # The images of a single question may be more than can be encoded together.
            most = min(self._ceiling, self._available()) / self._visual
        most = min(most, self._most_patches)
        first = filled = 0
        for at, patches in enumerate(map(self._patches, shown)):
            if at > first and filled + patches > most:
                yield shown[first:at]
                first, filled = at, 0
            filled += patches
        yield shown[first:]

    def encode_less(self, shown: Sequence[Shown]) -> bool:
        """Encode fewer images at once than now of *shown*; return False if that cannot be."""
        portions = [portion for portion in self.encoded_at_once(shown) if len(portion) > 1]
        if portions:
            self._most_patches = max(sum(map(self._patches, each)) for each in portions) / 2
        return bool(portions)

    def exceeded_by(self, group: Sequence[Prompts]) -> None:
        """Note that *group* did not fit."""
        self._ceiling = min(self._ceiling, self.need(group) / 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _layout(self, shown: Shown) -> Layout:
        if shown.picture is None:
            return self._family.tower.layout(shown.condition.size)
        return shown.picture.layout

    def _patches(self, shown: Shown) -> int:
        layout = self._layout(shown)
        return layout.tiles * layout.tokens

    def _prefix(self, item: Prompts) -> int:
        """Return how many tokens a prefix has, but for those around its images."""
        visual = sum(self._family.visual_tokens(self._layout(each)) for each in item.shown)
        return visual + sum(map(len, item.texts))

    def _available(self) -> float:
        if self._fixed is not None:
            return self._fixed
        device = next(self._family.decoder.parameters()).device
        free = free_memory(device) * _SHARE
        return min(free, _CPU_BYTES) if device.type == "cpu" else free
