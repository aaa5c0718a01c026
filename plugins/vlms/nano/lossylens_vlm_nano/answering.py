"""Answering many questions about many pictures in few passes.

A picture is encoded once, the prefix that its questions share (turn opening and
visual tokens) is prefilled once, and the questions of all pictures of a batch
continue as rows of one batch from copies of the prefix's key-value cache.

Layout of a row's cache: left padding and prefix, then left padding and question,
then the answer as it grows.  Positions count unmasked tokens, so padding changes
nothing but the rounding of floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import (
    BaseImageProcessor,
    DynamicCache,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
)

from lossylens_vlm_nano.prompt import prompt_prefix, prompt_suffix


@dataclass(frozen=True)
class Row:
    """One question to be answered.

    Attributes:
        image: index of its picture in the batch.
        text: the prompt text.
        limit: most tokens to write.
    """

    image: int
    text: str
    limit: int


@dataclass
class _Prefix:
    """Prefilled prefixes: cache, mask (B, P) and next position (B,)."""

    cache: DynamicCache
    mask: Tensor
    start: Tensor


class Answerer:
    """Batched greedy decoding for a model of the Qwen2.5-VL architecture."""

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: BaseImageProcessor,
        rows_at_once: int,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.processor = processor
        self.rows_at_once = rows_at_once
        self.end = tokenizer.eos_token_id
        self.device = model.device

    def suffix(self, text: str) -> list[int]:
        """Return the token ids of a question, as they follow the prefix."""
        ids: list[int] = self.tokenizer.encode(prompt_suffix(text), add_special_tokens=False)
        return ids

    @torch.inference_mode()
    def answer(self, images: list[Image], rows: list[Row]) -> list[list[int]]:
        """Return the answer's token ids for each of *rows*, end token excluded."""
        prefix = self._prefill(images)
        suffixes = [self.suffix(row.text) for row in rows]
        # Rows of like length share a chunk, so that little of it is padding.
        order = sorted(range(len(rows)), key=lambda i: (rows[i].limit, len(suffixes[i])))
        answers: list[list[int]] = [[] for _ in rows]
        for first in range(0, len(order), self.rows_at_once):
            chunk = order[first : first + self.rows_at_once]
            written = self._decode(prefix, [rows[i] for i in chunk], [suffixes[i] for i in chunk])
            for i, tokens in zip(chunk, written, strict=True):
                answers[i] = tokens
        return answers

    def _prefill(self, images: list[Image]) -> _Prefix:
        inputs = self.processor(images=images, return_tensors="pt")
        grids = inputs["image_grid_thw"]
        features = self.model.get_image_features(
            inputs["pixel_values"].to(self.device, self.model.dtype), grids.to(self.device)
        ).pooler_output
        ids = [
            self.tokenizer.encode(prompt_prefix(len(visual)), add_special_tokens=False)
            for visual in features
        ]
        tokens, mask = self._left_pad(ids)
        pictured = tokens == self.model.config.image_token_id
        positions, _ = self.model.model.get_rope_index(
            tokens, mm_token_type_ids=pictured.int(), image_grid_thw=grids, attention_mask=mask
        )
        embeddings = self.model.get_input_embeddings()(tokens)
        visual_features = torch.cat(list(features)).to(embeddings.dtype)
        embeddings = embeddings.masked_scatter(pictured[..., None], visual_features)
        cache = self._forward(embeddings, positions, mask, None)[1]
        start = positions.amax(dim=(0, 2)) + 1
        return _Prefix(cache, mask, start)

    def _left_pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        length = max(map(len, rows))
        tokens = torch.full((len(rows), length), self.end)
        mask = torch.zeros_like(tokens)
        for number, row in enumerate(rows):
            tokens[number, length - len(row) :] = torch.tensor(row)
            mask[number, length - len(row) :] = 1
        return tokens.to(self.device), mask.to(self.device)

    def _forward(
        self, embeddings: Tensor, positions: Tensor, mask: Tensor, cache: DynamicCache | None
    ) -> tuple[Tensor, DynamicCache]:
        """Return the logits (R, V) after the last token, and the cache."""
        output = self.model.model.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        return self.model.lm_head(output.last_hidden_state[:, -1]), output.past_key_values

    def _expanded(self, prefix: _Prefix, which: Tensor) -> DynamicCache:
        """Return a cache that holds the prefix of each row's picture."""
        cache = DynamicCache(config=self.model.config.get_text_config())
        layers: Any = prefix.cache.layers
        for number, layer in enumerate(layers):
            cache.update(layer.keys[which], layer.values[which], number)
        return cache

    def _decode(
        self, prefix: _Prefix, rows: list[Row], suffixes: list[list[int]]
    ) -> list[list[int]]:
        which = torch.tensor([row.image for row in rows], device=self.device)
        tokens, asked = self._left_pad(suffixes)
        mask = torch.cat((prefix.mask[which], asked), dim=1)
        positions = prefix.start[which, None] + (asked.cumsum(1) - 1).clamp(min=0)
        cache = self._expanded(prefix, which)
        position = positions[:, -1:]
        written: list[list[int]] = [[] for _ in rows]
        active = list(range(len(rows)))
        while True:
            embeddings = self.model.get_input_embeddings()(tokens)
            logits, cache = self._forward(embeddings, positions.expand(3, -1, -1), mask, cache)
            chosen = logits.argmax(-1)
            keep = []
            for slot, token in enumerate(chosen.tolist()):
                row = active[slot]
                if token == self.end:
                    continue
                written[row].append(token)
                if len(written[row]) < rows[row].limit:
                    keep.append(slot)
            if not keep:
                return written
            if len(keep) < len(active):
                # Finished rows leave the batch, with their share of the cache.
                slots = torch.tensor(keep, device=self.device)
                cache.batch_select_indices(slots)
                mask, position, chosen = mask[slots], position[slots], chosen[slots]
                active = [active[slot] for slot in keep]
            tokens = chosen[:, None]
            mask = torch.cat((mask, torch.ones_like(tokens)), dim=1)
            position = position + 1
            positions = position
