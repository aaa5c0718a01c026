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


@dataclass(frozen=True)
class _Line:
    """Some questions with one prefix, following each other in one sequence."""

    asked: int
    rows: tuple[int, ...]


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
        lines = _lines(group, prefixes, written)
        if lines:
            cache = self._prefill(encoded, prefixes)
            _Decoding(self.family, group, prefixes, written, lines).run(cache)
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
    """Questions and answers of one group, from the prefilled prefixes on.

    Every cached token has a label: shared by all questions of its line, or the number
    of the question that alone sees it, or nobody's.
    """

    def __init__(
        self,
        family: Family,
        group: Sequence[Prompts],
        prefixes: Sequence[Prefix],
        written: Sequence[Sequence[Written]],
        lines: Sequence[_Line],
    ) -> None:
        self.family = family
        self.group, self.prefixes, self.written = group, prefixes, written
        self.lines = list(lines)
        length = max(len(prefix.ids) for prefix in prefixes)
        lengths = torch.tensor([len(prefixes[line.asked].ids) for line in lines])
        inside = torch.arange(length) < lengths[:, None]
        self.labels = torch.where(inside, _SHARED, _NOBODY)

    def run(self, cache: Cache) -> None:
        """Write all answers."""
        items = [line.asked for line in self.lines]
        if items != list(range(len(self.prefixes))):
            cache = selected(cache, torch.tensor(items))
        sequences = [
            [(row, self.group[line.asked].rows[row].suffix) for row in line.rows]
            for line in self.lines
        ]
        while any(sequences):
            self._leave(sequences, cache)
            logits = self._step(sequences, cache)
            sequences = self._extend(sequences, logits.argmax(-1).tolist())

    def _leave(self, sequences: list[list[tuple[int, list[int]]]], cache: Cache) -> None:
        """Drop finished lines, once they are many enough to be worth copying the others."""
        busy = [number for number, sequence in enumerate(sequences) if sequence]
        if len(busy) > 0.75 * len(sequences):
            return
        index = torch.tensor(busy)
        cache.batch_select_indices(index)
        self.labels = self.labels[index]
        self.lines = [self.lines[number] for number in busy]
        sequences[:] = [sequences[number] for number in busy]

    def _step(self, sequences: Sequence[Sequence[tuple[int, list[int]]]], cache: Cache) -> Tensor:
        """Feed the tokens of each question; return the logits behind the last of each."""
        length = max(sum(len(ids) for _, ids in sequence) for sequence in sequences)
        tokens = torch.full((len(sequences), length), min(self.family.stop))
        labels = torch.full_like(tokens, _FILLER)
        positions = torch.zeros_like(tokens)
        last: list[tuple[int, int]] = []
        for number, (line, sequence) in enumerate(zip(self.lines, sequences, strict=True)):
            at = 0
            for row, ids in sequence:
                end = at + len(ids)
                tokens[number, at:end] = torch.tensor(ids)
                labels[number, at:end] = row + 1
                start = self._start(line.asked, row)
                positions[number, at:end] = torch.arange(start, start + len(ids))
                last.append((number, end - 1))
                at = end
        embeddings = _embed(self.family, tokens)
        device = embeddings.device
        repeated = positions.repeat(self.family.position_axes, 1, 1)
        hidden = self.family.decoder(
            inputs_embeds=embeddings,
            position_ids=_axes(self.family, repeated, device),
            attention_mask=_mask(self.labels.to(device), labels.to(device)),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        self.labels = torch.cat((self.labels, labels.masked_fill(labels == _FILLER, _NOBODY)), 1)
        index = torch.tensor(last, device=hidden.device)
        return self.family.head(hidden[index[:, 0], index[:, 1]])

    def _start(self, item: int, row: int) -> int:
        """Return the position of the next token of a question."""
        tokens = len(self.written[item][row].tokens)
        start = self.prefixes[item].start
        return start + (len(self.group[item].rows[row].suffix) + tokens - 1 if tokens else 0)

    def _extend(
        self, sequences: Sequence[Sequence[tuple[int, list[int]]]], chosen: Sequence[int]
    ) -> list[list[tuple[int, list[int]]]]:
        """Note the tokens *chosen*; return what is to be fed next."""
        tokens = iter(chosen)
        following = []
        for line, sequence in zip(self.lines, sequences, strict=True):
            unfinished = []
            for row, _ in sequence:
                token = next(tokens)
                written = self.written[line.asked][row]
                if token in self.family.stop:
                    continue
                written.tokens.append(token)
                limit = self.group[line.asked].rows[row].limit
                room = self.family.context - written.prompt
                if len(written.tokens) < min(limit, room):
                    unfinished.append((row, [token]))
            following.append(unfinished)
        return following


def distinct(group: Iterable[Prompts]) -> list[Shown]:
    """Return the images of *group*, each once."""
    return list({each.key: each for item in group for each in item.shown}.values())


def _lines(
    group: Sequence[Prompts], prefixes: Sequence[Prefix], written: Sequence[Sequence[Written]]
) -> list[_Line]:
    """Lay the questions out in lines.

    A line about as long as its prefix keeps the attention between questions, which is
    masked but computed, below that to the prefix.
    """
    lines = []
    for number, (item, prefix, notes) in enumerate(zip(group, prefixes, written, strict=True)):
        line: list[int] = []
        filled = 0
        for row, note in enumerate(notes):
            if note.failure:
                continue
            tokens = len(item.rows[row].suffix)
            if line and filled + tokens > len(prefix.ids):
                lines.append(_Line(number, tuple(line)))
                line, filled = [], 0
            line.append(row)
            filled += tokens
        if line:
            lines.append(_Line(number, tuple(line)))
    return lines


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
