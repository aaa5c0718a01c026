"""Qwen-VL-Chat as the engine uses it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lossylens.vlm import Box, Question, QuestionKind, default_prompt
from lossylens_toolkit.transformers_vlm.boxes import as_fractions
from lossylens_toolkit.transformers_vlm.family import Family, Part
from lossylens_toolkit.transformers_vlm.tower import TiledTower
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, PreparedImage
from lossylens_toolkit.written_boxes import four_numbers
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from lossylens_vlm_qwen_vl_chat.configuration import QwenVLConfig, VisionConfig
from lossylens_vlm_qwen_vl_chat.tokenizer import (
    END_OF_TEXT,
    IMAGE_END,
    IMAGE_PAD,
    IMAGE_START,
    PLACE_MARKS,
    TURN_END,
    TURN_START,
)
from lossylens_vlm_qwen_vl_chat.vision import VisionEncoder

#: Longest answer, in tokens, of the official generation settings.
LIMIT = 512

#: The numbers of a box at the right and lower edge of the image, whatever its size.
EDGE = 999

_MARKS = re.compile(f"({'|'.join(PLACE_MARKS)})")
_BOX = re.compile(r"\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)\s*,\s*\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)")

# Those of CLIP.
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


@dataclass(frozen=True)
class Preprocessor:
    """Scales an image to a square, whatever its aspect ratio.

    Attributes:
        side: of the square, in pixels.
        patch: side of a patch.
    """

    side: int
    patch: int

    def __call__(self, image: Image.Image, detail: Hashable) -> PreparedImage:
        """Return ``(1, 3, side, side)``; there is one detail."""
        square = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        pixels = (np.asarray(square, dtype=np.float32) / 255 - _MEAN) / _STD
        return PreparedImage(torch.from_numpy(pixels).permute(2, 0, 1)[None], self.layout())

    def layout(self) -> Layout:
        """Return the layout of every image."""
        grid = self.side // self.patch
        return Layout(1, grid, grid)


class Tower(TiledTower):
    """ViT-bigG and the resampler.

    The norm that precedes the layers is part of the embedding: conditions are added
    behind it.  Hidden states may enter in any square grid, whose positions the resampler
    interpolates.  Images are always scaled to one size.
    """

    module: VisionEncoder
    preprocess: Preprocessor

    def __init__(self, encoder: VisionEncoder, config: VisionConfig) -> None:
        self.module = encoder
        self.preprocess = Preprocessor(config.image_size, config.patch_size)
        self.layers, self.width = config.layers, config.width

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return the layout of every image."""
        return self.preprocess.layout()

    def refusal(self, layout: Layout) -> str:
        """Return why hidden states of *layout* cannot be entered."""
        if layout.rows != layout.columns:
            return f"its {layout.rows}x{layout.columns} patches are no square"
        return super().refusal(layout)

    def first(self, pixels: Tensor) -> Tensor:
        """Return patch embedding and positions, normalised."""
        return self.module.embed(pixels)

    def norms(self, number: int) -> tuple[nn.Module, nn.Module]:
        """Return the norms of one layer."""
        block = self._block(number)
        return block.ln_1, block.ln_2

    def mix(self, number: int, given: Tensor) -> Tensor:
        """Return attention."""
        return self._block(number).attn(given)

    def feed(self, number: int, given: Tensor) -> Tensor:
        """Return the feed-forward network."""
        return self._block(number).mlp(given)

    def query_key(self, number: int, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and key of one layer."""
        query, key, _ = self._block(number).attn.query_key_value(given)
        return query, key

    def last(self, hidden: Tensor, rows: int, columns: int) -> Tensor:
        """Return the resampled tokens."""
        return self.module.pool(hidden)

    def _block(self, number: int) -> Any:
        return self.module.transformer.resblocks[number]


class QwenVLChat(Family):
    """Qwen-VL-Chat.

    The official prompt spells the image's path between ``<img>`` and ``</img>``, filled
    up with ``<imgpad>`` to 256 tokens, and overwrites them with the features.  Here
    all 256 are ``<imgpad>``, which gives the same embeddings and needs no path.

    Args:
        vision: loaded.
        language: loaded.
        tokenizer: of the checkpoint.
        config: of the checkpoint.
        system: system prompt.
        space: whether a space precedes the image.
        limit: most tokens of an answer where the question sets none.
    """

    tokenizer: PreTrainedTokenizerFast

    def __init__(
        self,
        vision: VisionEncoder,
        language: Qwen2ForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        config: QwenVLConfig,
        *,
        system: str,
        space: bool,
        limit: int = LIMIT,
    ) -> None:
        super().__init__(language, language.model, tokenizer, limit)
        self.tower = Tower(vision, config.vision)
        self.preprocess = self.tower.preprocess
        self.image_token = self._token(IMAGE_PAD)
        self.stop = frozenset(map(self._token, (END_OF_TEXT, TURN_START, TURN_END)))
        self.context = config.context
        self._queries = config.vision.queries
        self._colon = ": " if space else ":"
        opening = self._turn("system", system) + self._turn("user", "", closed=False)
        end = [self._token(TURN_END), *self.encode_text("\n")]
        self.opening = (tuple(opening),)
        self.closing = (tuple(end + self._turn("assistant", "", closed=False)),)
        self.image_start = (self._token(IMAGE_START),)
        self.image_end = (self._token(IMAGE_END),)

    def _token(self, name: str) -> int:
        token = self.tokenizer.convert_tokens_to_ids(name)
        assert isinstance(token, int)
        return token

    def _turn(self, role: str, content: str, *, closed: bool = True) -> list[int]:
        # Officially role, newline and content are tokenised one by one.
        newline = self.encode_text("\n")
        opened = [self._token(TURN_START), *self.encode_text(role), *newline]
        end = [self._token(TURN_END), *newline] if closed else []
        return opened + self.encode_text(content) + end

    def wording(self, question: Question) -> str:
        """Return the reference evaluator's generic wording; the model has none of its own."""
        return default_prompt(question)

    def box(self, text: str, size: tuple[int, int], detail: Hashable) -> Box | None:
        """Return the box ``(x1,y1),(x2,y2)``, whose numbers go from 0 to 999."""
        found = _BOX.search(text)
        numbers = four_numbers(f"[{','.join(found.groups())}]" if found else text)
        return None if numbers is None else as_fractions(numbers, (EDGE, EDGE))

    def content(self, question: Question, images: int) -> Sequence[Part]:
        """Return text and images, each image with its number on a line of its own.

        Numbers count what is shown: an image that is shown twice gets two.  Where a box is
        asked for, marks of an expression are the tokens that the model was trained with.
        """
        parts: list[Part] = []
        shown = 0
        for part in super().content(question, images):
            if isinstance(part, int):
                shown += 1
                parts += [f"Picture {shown}{self._colon}", part, "\n"]
            elif question.kind is QuestionKind.BOX and isinstance(part, str):
                pieces = filter(None, _MARKS.split(part))
                parts += [(self._token(each),) if each in PLACE_MARKS else each for each in pieces]
            else:
                parts.append(part)
        return parts

    def visual_tokens(self, layout: Layout) -> int:
        """Return 256, for every image."""
        return self._queries
