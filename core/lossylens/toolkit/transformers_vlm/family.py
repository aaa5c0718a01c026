"""What the engine needs to know of one architecture.

A family is a loaded model seen from the outside: a tokenizer and a prompt format,
an image preprocessor, a vision encoder (:class:`~.tower.VisionTower`) and a decoder
with its embedding and head.  The engine does the rest for every family alike: it
encodes each image once, prefills what its questions share once, and continues all
questions from there.

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

What a prompt must be: ``before + image + after + text + end``, where only the text
differs between the questions about one image.  The prefix ends with the last special
token of the image, since no tokenizer merges anything across it: tokenising prefix and
suffix apart then gives the ids of the whole prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from lossylens.toolkit.transformers_vlm.attention import use_grouped_attention
from lossylens.toolkit.transformers_vlm.pictures import Layout, Picture
from lossylens.toolkit.transformers_vlm.tower import VisionTower
from lossylens.vlm import Question

#: Turns an image into what the tower takes, at the detail that a question asks for.
#: It is pickled to worker processes, so it holds no model.
Preprocessor = Callable[[Image, Hashable], Picture]


@dataclass(frozen=True, slots=True)
class Prefix:
    """What precedes every question about one image.

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
        preprocess: image and detail to :class:`Picture`; picklable.
        tokenizer: of the checkpoint.
        embedding: token ids ``(B, S)`` to ``(B, S, D)``.
        decoder: the language model without its head; see the module.
        head: hidden states ``(N, D)`` to logits ``(N, vocabulary)``.
        config: transformers configuration of the decoder.
        image_token: id that stands for one visual token.
        before: ids that precede the visual tokens.
        after: ids that follow them, up to where the text begins.
        end: ids that follow the text, up to where the answer begins; not needed where
            ``suffix_ids`` is another.
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
    before: list[int]
    after: list[int]
    end: list[int]
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

    def suffix_ids(self, text: str) -> list[int]:
        """Return the ids of the text and what follows it, up to where the answer begins.

        *text* is tokenised as text, also where it spells a special token.
        """
        return self.encode_text(text) + self.end

    def detail(self, question: Question) -> Hashable:
        """Return at which detail (pixels, tiles) the image is needed for *question*.

        Questions about one image that agree in it share the encoding.
        """
        return None

    def prefix_ids(self, layout: Layout) -> list[int]:
        """Return the ids of all that precedes the text, visual placeholders included."""
        return [*self.before, *[self.image_token] * self.visual_tokens(layout), *self.after]

    def prefix(self, layout: Layout) -> Prefix:
        """Return ids and positions of all that precedes the text."""
        ids = self.prefix_ids(layout)
        return Prefix(ids, torch.arange(len(ids))[None].expand(self.position_axes, -1), len(ids))

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


#: ChatML: what ends the user's turn and opens the answer.
CHATML_ANSWER = "<|im_end|>\n<|im_start|>assistant\n"


def chatml_opening(system: str) -> str:
    """Return what opens the user's turn in ChatML, behind a system turn unless that is empty."""
    turn = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{turn}<|im_start|>user\n"


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that end an answer: those of the checkpoint's generation settings."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    found = {ids} if isinstance(ids, int) else set(ids or ())
    return frozenset(found or {tokenizer.eos_token_id})
