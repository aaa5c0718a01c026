"""A key-value cache that grows in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class GrowingLayer(DynamicLayer):
    """One layer's keys and values, with room for tokens to come.

    transformers' own layer copies all it holds for every token that is added.  Here a
    copy is made when the room is used up, an eighth more than is needed at a time.
    """

    keys: Any
    values: Any
    _room: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append ``(B, heads, S, width)`` and return all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        held = self.get_seq_length()
        length = held + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < length:
            self._room = self._roomier(length + max(64, length // 8))
        for room, added in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, held:length] = added
        self.keys, self.values = (room[:, :, :length] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows *indices* of the batch; repeats are allowed."""
        super().batch_select_indices(indices.to(self.keys.device))
        self._room = None

    def _roomier(self, length: int) -> tuple[Tensor, Tensor]:
        return self._copy(self.keys, length), self._copy(self.values, length)

    @staticmethod
    def _copy(held: Tensor, length: int) -> Tensor:
        batch, heads, old, width = held.shape
        room = held.new_empty(batch, heads, length, width)
        room[:, :, :old] = held
        return room


def new_cache() -> Cache:
    """Return an empty cache."""
    return Cache(layer_class_to_replicate=GrowingLayer)


def selected(cache: Cache, indices: Tensor) -> Cache:
    """Return a copy of *cache* that holds the rows *indices* of the batch."""
    copy = new_cache()
    layers: Any = cache.layers
    for number, layer in enumerate(layers):
        rows = indices.to(layer.keys.device)
        copy.update(
            torch.index_select(layer.keys, 0, rows),
            torch.index_select(layer.values, 0, rows),
            number,
        )
    return copy
