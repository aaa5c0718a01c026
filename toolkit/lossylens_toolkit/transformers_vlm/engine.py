"""Answering many questions about many images in few passes.

An image is encoded once.  The prefix that questions share (all up to their last image) is
prefilled once, without a mask: prefixes of different length are padded at the end, where
a causal decoder does not look.  All questions with that prefix then follow each other in
one sequence behind it, each seeing the prefix and itself, at the positions that it would
have alone.  So the prefix's cache is not copied per question,
and hardly anything is padding.  While answers are written, each step takes one token of
every unfinished question.

Answers are those of greedy decoding of one question at a time, up to the rounding of
floats.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from lossylens.vlm import Condition
from torch import Tensor
from transformers import Cache

from lossylens_toolkit.out_of_memory import is_out_of_memory
from lossylens_toolkit.transformers_vlm.family import Family, Prefix
from lossylens_toolkit.transformers_vlm.growing_cache import new_cache, selected
from lossylens_toolkit.transformers_vlm.memory import MemoryBudget
from lossylens_toolkit.transformers_vlm.vision_inputs import PreparedImage, VisualTokens

#: Encodes images, given how each was compressed.
Encoder = Callable[[Sequence[PreparedImage | None], Sequence[Condition]], Sequence[VisualTokens]]

#: Labels of cached tokens: seen by all questions of their sequence, or by none.
_SHARED, _NOBODY = 0, -1

#: Label of queries that only fill up a row.
_FILLER = -2


@dataclass(frozen=True, slots=True)
class Suffix:
    """One question.

    Attributes:
        suffix: token ids that follow the prefix.
        limit: most tokens to write.
    """

    suffix: list[int]
    limit: int


@dataclass(frozen=True, slots=True)
class Shown:
    """An image in its place in a prompt.

    Attributes:
        picture: the image, preprocessed; None for an encoder that takes no pixels.
        condition: how it was compressed.
    """

    picture: PreparedImage | None
    condition: Condition

    @property
    def key(self) -> Hashable:
        """What is equal where the same image is shown, as long as both are held."""
        condition, point = self.condition, self.condition.point
        how = (point.codec, point.level, point.label, point.key, condition.size)
        held = (self.picture, condition.bitstream, condition.latents)
        return how, tuple(map(id, held))


@dataclass(frozen=True, slots=True)
class Prompts:
    """Images with questions that agree up to the last of them.

    Attributes:
        shown: the images, in the order of the prompt.
        texts: the token ids before each image.
        rows: the questions.
    """

    shown: tuple[Shown, ...]
    texts: tuple[tuple[int, ...], ...]
    rows: tuple[Suffix, ...]


@dataclass(slots=True)
class Written:
    """What was written in answer to one question.

    Attributes:
        tokens: ids, end token excluded.
        prompt: number of tokens of the prompt.
        failure: why there is no answer, or ``""``.
    """

    tokens: list[int] = field(default_factory=list)
    prompt: int = 0
    failure: str = ""


@dataclass(slots=True)
class _Question:
    """A question while its answer is written.

    Attributes:
        label: of its tokens in its line, from 1 on.
        pending: token ids to feed next, the last of which the next token follows: the suffix
            at first, then what was written last; none when the answer is complete.
        position: of the first of them.
        limit: most tokens of the answer.
        written: the answer so far.
    """

    label: int
    pending: list[int]
    position: int
    limit: int
    written: Written

    def write(self, token: int, stop: frozenset[int]) -> None:
        """Take *token* as what follows all that is pending."""
        self.position += len(self.pending)
        self.pending = []
        if token in stop:
            return
        self.written.tokens.append(token)
        if len(self.written.tokens) < self.limit:
            self.pending = [token]


@dataclass(frozen=True, slots=True)
class _Line:
    """Questions with one prefix, following each other in one sequence behind it.

    Attributes:
        prefix: its number in the group.
        questions: in the order of their labels.
    """

    prefix: int
    questions: list[_Question]

    @property
    def unfinished(self) -> list[_Question]:
        """The questions whose answers are not complete."""
        return [each for each in self.questions if each.pending]


class Engine:
    """Batched greedy decoding for any :class:`~.family.Family`.

    Attributes:
        family: the model.
        encode: how images become visual tokens; adaptors replace it.
        budget: how much is done at once.
    """

    def __init__(
        self, family: Family, encode: Encoder | None = None, budget: MemoryBudget | None = None
    ) -> None:
        self.family = family
        self.encode = encode or self._own
        self.budget = budget or MemoryBudget(family)

    def _own(
        self, pictures: Sequence[PreparedImage | None], _: Sequence[Condition]
    ) -> Sequence[VisualTokens]:
        seen = [picture for picture in pictures if picture is not None]
        if len(seen) < len(pictures):
            raise ValueError("an image was not decoded, and no adaptor does without")
        return self.family.tower.encode(seen)

    def answer(self, asked: Iterable[Prompts]) -> Iterator[list[Written]]:
        """Yield what is written in answer to the questions of each item, in order.

        *asked* is consumed as it is needed, so that preprocessing can go on meanwhile.
        A question that is too long, or too large for the memory even alone, fails.
        """
        group: list[Prompts] = []
        for item in asked:
            if group and not self.budget.allows([*group, item]):
                yield from self._attempt(group)
                group = []
            group.append(item)
        if group:
            yield from self._attempt(group)

    def _attempt(self, group: list[Prompts]) -> list[list[Written]]:
        """Do *group*, in halves where the memory does not suffice."""
        try:
            return self._answer(group)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Here the exception is gone, and with it the tensors that its frames held.
        self.budget.exceeded_by(group)
        middle = len(group) // 2
        if middle:
            return self._attempt(group[:middle]) + self._attempt(group[middle:])
        [item] = group
        middle = len(item.rows) // 2
        if middle:
            first, second = (
                self._attempt([replace(item, rows=rows)])[0]
                for rows in (item.rows[:middle], item.rows[middle:])
            )
            return [first + second]
        if self.budget.encode_less(distinct(group)):
            return self._attempt(group)
        return [[Written(failure="the memory does not suffice for this question alone")]]

    @torch.inference_mode()
    def _answer(self, group: Sequence[Prompts]) -> list[list[Written]]:
        encoded = self._encode(group)
        prefixes = [
            self.family.prefix(item.texts, [each.layout for each in seen])
            for item, seen in zip(group, encoded, strict=True)
        ]
        written = [
            [self._admitted(prefix, row) for row in item.rows]
            for item, prefix in zip(group, prefixes, strict=True)
        ]
        lines = [
            line
            for number, (item, prefix) in enumerate(zip(group, prefixes, strict=True))
            for line in self._lines(number, prefix, zip(item.rows, written[number], strict=True))
        ]
        if lines:
            cache = self._prefill(encoded, prefixes)
            _Decoding(self.family, prefixes, lines, cache).run()
        return written

    def _encode(self, group: Sequence[Prompts]) -> list[list[VisualTokens]]:
        """Return the visual tokens of the images of each item, each image encoded once."""
        encoded: dict[Hashable, VisualTokens] = {}
        for some in self.budget.encoded_at_once(distinct(group)):
            found = self.encode([each.picture for each in some], [each.condition for each in some])
            for each, tokens in zip(some, found, strict=True):
                given, expected = len(tokens.features), self.family.visual_tokens(tokens.layout)
                if given != expected:
                    raise ValueError(
                        f"the encoder returned {given} visual tokens for an image whose layout "
                        f"makes {expected}"
                    )
                encoded[each.key] = tokens
        return [[encoded[each.key] for each in item.shown] for item in group]

    def _admitted(self, prefix: Prefix, row: Suffix) -> Written:
        tokens = len(prefix.ids) + len(row.suffix)
        context = self.family.context
        if tokens < context:
            return Written(prompt=tokens)
        reason = f"the prompt has {tokens} tokens, {len(prefix.ids)} of them up to the last image"
        return Written(prompt=tokens, failure=f"{reason}; the model's context is {context}")

    def _lines(
        self, number: int, prefix: Prefix, rows: Iterable[tuple[Suffix, Written]]
    ) -> Iterator[_Line]:
        """Lay the questions of one prefix out in lines.

        A line about as long as its prefix keeps the attention between questions, which is
        masked but computed, below that to the prefix.
        """
        questions: list[_Question] = []
        filled = 0
        for row, written in rows:
            if written.failure:
                continue
            if questions and filled + len(row.suffix) > len(prefix.ids):
                yield _Line(number, questions)
                questions, filled = [], 0
            filled += len(row.suffix)
            limit = min(row.limit, self.family.context - written.prompt)
            label = len(questions) + 1
            questions.append(_Question(label, row.suffix, prefix.start, limit, written))
        if questions:
            yield _Line(number, questions)

    def _prefill(
        self, encoded: Sequence[Sequence[VisualTokens]], prefixes: Sequence[Prefix]
    ) -> Cache:
        family = self.family
        length = max(len(prefix.ids) for prefix in prefixes)
        filler = min(family.stop)
        ids = torch.tensor(
            [prefix.ids + [filler] * (length - len(prefix.ids)) for prefix in prefixes]
        )
        positions = torch.arange(length).repeat(family.position_axes, len(prefixes), 1)
        for number, prefix in enumerate(prefixes):
            positions[:, number, : len(prefix.ids)] = prefix.positions
        embeddings = _embed(family, ids)
        visual = (ids == family.image_token).to(embeddings.device)
        features = torch.cat([each.features.to(embeddings) for seen in encoded for each in seen])
        embeddings = embeddings.masked_scatter(visual[..., None], features)
        cache = new_cache()
        family.decoder(
            inputs_embeds=embeddings,
            position_ids=_axes(family, positions, embeddings.device),
            past_key_values=cache,
            use_cache=True,
        )
        return cache


class _Decoding:
    """The answers of one group, from the prefilled prefixes on.

    Every cached token has a label: shared by all questions of its line, or that of the
    question that alone sees it, or nobody's.

    Attributes:
        lines: those with unfinished answers, and a few without.
        labels: of what is cached for each line, ``(lines, tokens)``.
    """

    def __init__(
        self, family: Family, prefixes: Sequence[Prefix], lines: list[_Line], cache: Cache
    ) -> None:
        self.family, self.lines = family, lines
        of_line = [line.prefix for line in lines]
        alike = of_line == list(range(len(prefixes)))
        self.cache = cache if alike else selected(cache, torch.tensor(of_line))
        lengths = torch.tensor([len(prefixes[number].ids) for number in of_line])
        inside = torch.arange(max(len(each.ids) for each in prefixes)) < lengths[:, None]
        self.labels = torch.where(inside, _SHARED, _NOBODY)

    def run(self) -> None:
        """Write all answers."""
        while any(line.unfinished for line in self.lines):
            self._drop_finished()
            fed = [line.unfinished for line in self.lines]
            chosen = self._step(fed).argmax(-1).tolist()
            for question, token in zip(chain.from_iterable(fed), chosen, strict=True):
                question.write(token, self.family.stop)

    def _drop_finished(self) -> None:
        """Drop finished lines, once they are many enough to be worth copying the others."""
        busy = [number for number, line in enumerate(self.lines) if line.unfinished]
        if len(busy) > 0.75 * len(self.lines):
            return
        index = torch.tensor(busy)
        self.cache.batch_select_indices(index)
        self.labels = self.labels[index]
        self.lines = [self.lines[number] for number in busy]

    def _step(self, fed: Sequence[Sequence[_Question]]) -> Tensor:
        """Feed what is pending of the questions of each line.

        Returns:
            Logits behind the last token of each, ``(questions, vocabulary)``.
        """
        length = max(sum(len(each.pending) for each in line) for line in fed)
        tokens = torch.full((len(fed), length), min(self.family.stop))
        labels = torch.full_like(tokens, _FILLER)
        positions = torch.zeros_like(tokens)
        last: list[tuple[int, int]] = []
        for number, line in enumerate(fed):
            end = 0
            for question in line:
                start, end = end, end + len(question.pending)
                tokens[number, start:end] = torch.tensor(question.pending)
                labels[number, start:end] = question.label
                positions[number, start:end] = question.position + torch.arange(end - start)
                last.append((number, end - 1))
        embeddings = _embed(self.family, tokens)
        device = embeddings.device
        repeated = positions.repeat(self.family.position_axes, 1, 1)
        hidden = self.family.decoder(
            inputs_embeds=embeddings,
            position_ids=_axes(self.family, repeated, device),
            attention_mask=_mask(self.labels.to(device), labels.to(device)),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        self.labels = torch.cat((self.labels, labels.masked_fill(labels == _FILLER, _NOBODY)), 1)
        index = torch.tensor(last, device=hidden.device)
        return self.family.head(hidden[index[:, 0], index[:, 1]])


def distinct(group: Iterable[Prompts]) -> list[Shown]:
    """Return the images of *group*, each once."""
    return list({each.key: each for item in group for each in item.shown}.values())


def _mask(cached: Tensor, labels: Tensor) -> Tensor:
    """Return who sees whom: ``(B, 1, S, T + S)``, for ``(B, T)`` cached and ``(B, S)`` new."""
    before = (cached[:, None] == _SHARED) | (cached[:, None] == labels[..., None])
    among = (labels[:, None] == labels[..., None]).tril()
    return torch.cat((before, among), -1)[:, None]


def _embed(family: Family, ids: Tensor) -> Tensor:
    return family.embedding(ids.to(next(family.embedding.parameters()).device))


def _axes(family: Family, positions: Tensor, device: torch.device) -> Tensor:
    """Return *positions* ``(axes, B, S)`` as the decoder takes them."""
    return (positions if family.position_axes > 1 else positions[0]).to(device)
