"""BLEU-1 to BLEU-4 (Papineni et al., ACL 2002) as ``pycocoevalcap`` computes them.

Tokens are what any whitespace separates; nothing is lower-cased or removed.  Of
several references the one nearest in length counts for the brevity penalty, the
shorter of two that are equally near.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from lossylens_task_coco_caption.words import Words

ORDERS = 4

# Added to numerators and denominators, against division by zero.
_TINY = 1e-15
_SMALL = 1e-9


class BleuCounts(NamedTuple):
    """What BLEU is computed from; counts of several captions add up.

    Attributes:
        length: of the caption, in tokens.
        reference_length: of the reference that is nearest in length.
        matches: per order, how many n-grams a reference has too.
        total: per order, how many n-grams the caption has.
    """

    length: int
    reference_length: int
    matches: tuple[int, ...]
    total: tuple[int, ...]


def bleu_counts(words: Words) -> BleuCounts:
    """Return the counts of one caption."""
    length = len(words.caption)
    return BleuCounts(
        length, _nearest(length, set(map(len, words.references))), _matches(words), _totals(length)
    )


def _nearest(length: int, others: Set[int]) -> int:
    if length in others:
        return length
    return min(others, key=lambda other: (abs(other - length), other))


@lru_cache(maxsize=1024)
def _totals(length: int) -> tuple[int, ...]:
    return tuple(max(0, length - order) for order in range(ORDERS))


def _matches(words: Words) -> tuple[int, ...]:
    """Return per order how many n-grams of a caption occur in a reference, at least as often.

    An n-gram is looked for only where both shorter ones in it were found, and as
    text, which is fast: words hold no whitespace.
    """
    caption, references = words
    known = set().union(*references)
    starts = [start for start, word in enumerate(caption) if word in known]
    found = [caption[start] for start in starts]
    matches = [len(found) - _surplus(found, references, 1)]
    text = ""
    for order in range(2, ORDERS + 1):
        starts = [start for start, following in pairwise(starts) if following == start + 1]
        if not starts:
            break
        text = text or "\n".join([f" {' '.join(reference)} " for reference in references])
        ngrams = [(start, f" {' '.join(caption[start : start + order])} ") for start in starts]
        there = [(start, ngram) for start, ngram in ngrams if ngram in text]
        starts = [start for start, _ in there]
        found = [ngram for _, ngram in there]
        matches.append(len(found) - _surplus(found, references, order))
    return (*matches, *[0] * (ORDERS - len(matches)))


def _surplus(found: Sequence[str], references: Sequence[list[str]], order: int) -> int:
    """Return how many of the n-grams *found* no reference has as often."""
    if len(set(found)) == len(found):
        return 0
    counts = [(ngram, count) for ngram, count in Counter(found).items() if count > 1]
    return sum([max(0, count - _most(ngram, references, order)) for ngram, count in counts])


def _most(ngram: str, references: Sequence[list[str]], order: int) -> int:
    """Return how often the reference has *ngram* that has it most often."""
    if order == 1:
        return max([reference.count(ngram) for reference in references])
    return max([_ngrams(reference, order).count(ngram) for reference in references])


def _ngrams(words: list[str], order: int) -> list[str]:
    starts = range(len(words) - order + 1)
    return [f" {' '.join(words[start : start + order])} " for start in starts]


def total_counts(counts: Iterable[BleuCounts]) -> BleuCounts:
    """Return the sum of *counts*."""
    lengths, reference_lengths, matches, totals = zip(*counts, strict=True)
    return BleuCounts(
        sum(lengths),
        sum(reference_lengths),
        tuple(map(sum, zip(*matches, strict=True))),
        tuple(map(sum, zip(*totals, strict=True))),
    )


def bleu(counts: BleuCounts) -> list[float]:
    """Return BLEU-1 to BLEU-4, in 0 to 1."""
    ratio = (counts.length + _TINY) / (counts.reference_length + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores = []
    product = 1.0
    for order, (matches, total) in enumerate(zip(counts.matches, counts.total, strict=True), 1):
        product *= (matches + _TINY) / (total + _SMALL)
        scores.append(product ** (1 / order) * penalty)
    return scores
