"""What the engine needs to know of one architecture.

A family is a loaded model seen from the outside: a tokenizer and a prompt format,
an image preprocessor, a vision encoder (:class:`~.tower.VisionTower`) and a decoder
with its embedding and head.  The engine does the rest for every family alike: it
encodes each image once, prefills what questions share once, and continues all questions
from there.

To add a family, write a tower, write a subclass of :class:`Family` that fills the
attributes in its constructor and implements the two abstract methods, and pass it to
:class:`~.engine.Engine`.  ``families/janus.py`` is the simplest example.

What the decoder must do: accept ``inputs_embeds (B, S, D)``, ``position_ids``
(``(B, S)``, or ``(axes, B, S)`` where :attr:`Family.position_axes` is more than 1),
``attention_mask`` (None for plain causal attention over a cache that is empty, or a
boolean mask ``(B, 1, S, cached + S)``, True where attention is allowed),
``past_key_values`` (a transformers ``Cache``) and ``use_cache``, and return an object
with ``last_hidden_state (B, S, D)`` after the final norm.  The decoders of transformers
(``Qwen2Model``, ``LlamaModel`` ...) do, under the attention implementation that
:func:`~.attention.use_grouped_attention` switches on.

What a prompt is: ``opening + content + closing``, where the content is text and images in
the order of the model's authors, each image between ``image_start`` and ``image_end``.
Questions that agree up to their last image share a prefix, which ends there: no tokenizer
merges anything across the special tokens of an image, so that tokenising the texts between
them apart gives the ids of the whole prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, cast

import torch
from lossylens.vlm import Box, Question, interleaved
from PIL.Image import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from lossylens_toolkit.transformers_vlm.attention import use_grouped_attention
from lossylens_toolkit.transformers_vlm.tower import VisionTower
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, PreparedImage

#: Turns an image into what the tower takes, at the detail that a question asks for.
#: It is pickled to worker processes, so it holds no model.
Preprocessor = Callable[[Image, Hashable], PreparedImage]


#: A part of a prompt: text, token ids, or the place of an image by its number.
Part = str | tuple[int, ...] | int


@dataclass(frozen=True, slots=True)
class Prefix:
    """What precedes questions about the same images.

    Attributes:
        ids: token ids; the visual tokens are written as :attr:`Family.image_token`.
        positions: ``(position_axes, len(ids))``, on the CPU.
        start: position of the token that follows.
    """

    ids: list[int]
    positions: Tensor
    start: int


class Family(ABC):
    """A loaded model, as the engine uses it.

    Attributes:
        tower: the vision encoder.
        preprocess: image and detail to :class:`PreparedImage`; picklable.
        tokenizer: of the checkpoint.
        embedding: token ids ``(B, S)`` to ``(B, S, D)``.
        decoder: the language model without its head; see the module.
        head: hidden states ``(N, D)`` to logits ``(N, vocabulary)``.
        config: transformers configuration of the decoder.
        image_token: id that stands for one visual token.
        opening: what precedes the content of the user's turn.
        closing: what follows it, up to where the answer begins.
        image_start: ids that precede the visual tokens of an image.
        image_end: ids that follow them.
        stop: ids that end an answer.
        context: most tokens that the decoder takes, answer included.
        limit: most tokens of an answer where the question sets none.
        position_axes: numbers per position; 3 for M-RoPE.
    """

    tower: VisionTower
    preprocess: Preprocessor
    tokenizer: PreTrainedTokenizerBase
    embedding: nn.Module
    decoder: nn.Module
    head: nn.Module
    config: Any
    image_token: int
    opening: tuple[Part, ...]
    closing: tuple[Part, ...]
    image_start: tuple[int, ...]
    image_end: tuple[int, ...]
    stop: frozenset[int]
    context: int
    limit: int
    position_axes: int = 1

    def __init__(
        self, model: Any, decoder: Any, tokenizer: PreTrainedTokenizerBase, limit: int
    ) -> None:
        """Fill the attributes that are had in one way from all models of transformers.

        Args:
            model: has embedding, head and generation settings.
            decoder: its language model.
            tokenizer: of the checkpoint.
            limit: most tokens of an answer where the question sets none.
        """
        self.tokenizer = tokenizer
        self.embedding = model.get_input_embeddings()
        self.decoder = decoder
        self.head = model.lm_head
        self.config = decoder.config
        self.stop = stop_tokens(model, tokenizer)
        self.context = self.config.max_position_embeddings
        self.limit = limit
        use_grouped_attention(decoder)

    @abstractmethod
    def wording(self, question: Question) -> str:
        """Return the text of *question*, as the reference evaluator words it for this model."""

    @abstractmethod
    def visual_tokens(self, layout: Layout) -> int:
        """Return how many visual tokens an image of *layout* becomes."""

    def content(self, question: Question, images: int) -> Sequence[Part]:
        """Return text and numbers of images, as the model's authors order them.

        By default images stand where the question's markers are, and else first.

        Args:
            question: whose wording it is.
            images: how many there are; numbers count from 0.

        Raises:
            ValueError: a marker speaks of an image that is not there.
        """
        return interleaved(self.wording(question), images)

    def detail(self, question: Question, images: int) -> Hashable:
        """Return at which detail (pixels, tiles) each of *images* is needed for *question*.

        Questions about the same images that agree in it share the encoding.
        """
        return None

    def details(self, question: Question, images: int) -> tuple[Hashable, ...]:
        """Return the detail of each of *images*, which is the same for most families."""
        return (self.detail(question, images),) * images

    def box(self, text: str, size: tuple[int, int], detail: Hashable) -> Box | None:
        """Return the box that the model wrote, as fractions of the image; None if there is none.

        A family that was not trained to write boxes has none.

        Args:
            text: what it wrote.
            size: width and height of the image that was asked about.
            detail: at which it was shown.
        """
        return None

    def prompt(self, question: Question, images: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """Return the prompt in two: up to the last image, and what follows.

        Raises:
            ValueError: a marker speaks of an image that is not there, or there is no image.
        """
        parts = (*self.opening, *self.content(question, images), *self.closing)
        places = [number for number, part in enumerate(parts) if isinstance(part, int)]
        if not places:
            raise ValueError("the question has no image")
        end = places[-1] + 1
        return parts[:end], parts[end:]

    def texts(self, parts: Iterable[Part]) -> list[tuple[int, ...]]:
        """Return the token ids between images: before the first, ..., behind the last.

        Neighbouring texts are tokenised as one, and as text also where they spell a special
        token.
        """
        found: list[tuple[int, ...]] = [()]
        for kind, run in groupby(parts, type):
            if kind is int:
                found.extend(() for _ in run)
            elif kind is str:
                found[-1] += tuple(self.encode_text("".join(cast(Iterator[str], run))))
            else:
                found[-1] += tuple(chain.from_iterable(cast(Iterator[tuple[int, ...]], run)))
        return found

    def visual_positions(self, layout: Layout, start: int) -> tuple[Tensor, int]:
        """Return positions of an image's visual tokens, and of the token that follows.

        Args:
            layout: of the image.
            start: position of its first visual token.
        """
        following = start + self.visual_tokens(layout)
        return torch.arange(start, following).expand(self.position_axes, -1), following

    def prefix(self, texts: Sequence[tuple[int, ...]], layouts: Sequence[Layout]) -> Prefix:
        """Return ids and positions of all up to the last image.

        Args:
            texts: what precedes each image.
            layouts: of the images.
        """
        ids: list[int] = []
        positions: list[Tensor] = []
        at = 0
        after: tuple[int, ...] = ()
        for text, layout in zip(texts, layouts, strict=True):
            between = (*after, *text, *self.image_start)
            positions.append(self._text_positions(at, len(between)))
            visual, at = self.visual_positions(layout, at + len(between))
            positions.append(visual)
            ids += between
            ids += [self.image_token] * self.visual_tokens(layout)
            after = self.image_end
        positions.append(self._text_positions(at, len(after)))
        return Prefix(ids + list(after), torch.cat(positions, 1), at + len(after))

    def _text_positions(self, start: int, count: int) -> Tensor:
        return torch.arange(start, start + count).expand(self.position_axes, -1)

    def encode_text(self, text: str, *, special: bool = False) -> list[int]:
        """Return the token ids of *text*, nothing added.

        Args:
            text: to be tokenised.
            special: whether special tokens that it spells are recognised.
        """
        ids: list[int] = self.tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=not special
        )
        return ids

    def special(self, text: str) -> tuple[int, ...]:
        """Return the ids of *text*, in which special tokens are recognised."""
        return tuple(self.encode_text(text, special=True))

    def use_chatml(self, system: str) -> None:
        """Take ChatML's turns as opening and closing, a system turn first unless it is empty."""
        turn = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
        # The role is text, which a text that follows may merge with.
        self.opening = (self.special(f"{turn}<|im_start|>"), "user\n")
        self.closing = (self.special("<|im_end|>\n<|im_start|>assistant\n"),)


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that end an answer: those of the checkpoint's generation settings."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    found = {ids} if isinstance(ids, int) else set(ids or ())
    return frozenset(found or {tokenizer.eos_token_id})
