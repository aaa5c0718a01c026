"""BLEU-1 to BLEU-4 (Papineni et al., ACL 2002) as ``pycocoevalcap`` computes them.

Tokens are what any whitespace separates; nothing is lower-cased or removed.  Of
several references the one nearest in length counts for the brevity penalty, the
shorter of two that are equally near.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ORDERS = 4

# Added to numerators and denominators, against division by zero.
_TINY = 1e-15
_SMALL = 1e-9

Tokens = Sequence[str]
Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BleuCounts:
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


def ngrams(tokens: Tokens, order: int) -> Iterable[Ngram]:
    """Return the n-grams of one order, in order of their appearance."""
    return zip(*(tokens[start:] for start in range(order)), strict=False)


def bleu_counts(caption: Tokens, references: Sequence[Tokens]) -> BleuCounts:
    """Return the counts of one caption."""
    length = len(caption)
    nearest = min((abs(len(reference) - length), len(reference)) for reference in references)
    return BleuCounts(
        length,
        nearest[1],
        _matches(caption, references),
        tuple(max(0, length - order + 1) for order in range(1, ORDERS + 1)),
    )


def _matches(caption: Tokens, references: Sequence[Tokens]) -> tuple[int, ...]:
    """Return per order how many n-grams of *caption* occur in a reference, at least as often.

    N-grams are looked for as text, which is fast: tokens hold no whitespace.
    """
    known = "\n".join(f" {' '.join(reference)} " for reference in references)
    starts: Sequence[int] = range(len(caption))
    matches = []
    for order in range(1, ORDERS + 1):
        # A longer n-gram occurs only where a shorter one does.
        starts = [
            start
            for start in starts
            if start + order <= len(caption)
            and f" {' '.join(caption[start : start + order])} " in known
        ]
        found = [tuple(caption[start : start + order]) for start in starts]
        matches.append(len(found) - _surplus(found, references))
    return tuple(matches)


def _surplus(found: Sequence[Ngram], references: Sequence[Tokens]) -> int:
    """Return how many of the n-grams *found* no reference has as often."""
    if len(set(found)) == len(found):
        return 0
    surplus = 0
    for ngram, count in Counter(found).items():
        if count > 1:
            most = max(_occurrences(ngram, reference) for reference in references)
            surplus += max(0, count - most)
    return surplus


def _occurrences(ngram: Ngram, tokens: Tokens) -> int:
    if len(ngram) == 1:
        return tokens.count(ngram[0])
    return list(ngrams(tokens, len(ngram))).count(ngram)


def total_counts(counts: Sequence[BleuCounts]) -> BleuCounts:
    """Return the sum of *counts*."""
    return BleuCounts(
        sum(each.length for each in counts),
        sum(each.reference_length for each in counts),
        tuple(map(sum, zip(*(each.matches for each in counts), strict=True))),
        tuple(map(sum, zip(*(each.total for each in counts), strict=True))),
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
