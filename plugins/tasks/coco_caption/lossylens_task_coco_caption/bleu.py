"""BLEU-1 to BLEU-4 (Papineni et al., ACL 2002) as ``pycocoevalcap`` computes them.

Tokens are what any whitespace separates; nothing is lower-cased or removed.  Of
several references the one nearest in length counts for the brevity penalty, the
shorter of two that are equally near.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from lossylens_task_coco_caption.words import Overlap

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


def bleu_counts(overlap: Overlap) -> BleuCounts:
    """Return the counts of one caption."""
    length = len(overlap.places)
    nearest = _nearest(length, overlap.lengths)
    return BleuCounts(length, nearest, _matches(overlap), _totals(length))


def _nearest(length: int, others: Sequence[int]) -> int:
    if length in others:
        return length
    return min(others, key=lambda other: (abs(other - length), other))


@lru_cache(maxsize=1024)
def _totals(length: int) -> tuple[int, ...]:
    return tuple(max(0, length - order) for order in range(ORDERS))


def _matches(overlap: Overlap) -> tuple[int, ...]:
    """Return per order how many n-grams of a caption occur in a reference, at least as often.

    An n-gram stands where a shorter one stands with the caption's next word behind it.
    """
    known = list(filter(None, overlap.places))
    found = overlap.places
    matches = []
    # What occurs once does not occur twice as the start of something longer.
    repeated = True
    while known:
        repeated = repeated and len(set(known)) < len(known)
        matches.append(len(known) - (_surplus(known, overlap.references) if repeated else 0))
        order = len(matches)
        if order == ORDERS:
            break
        following = overlap.places[order:]
        found = [
            places and places & (after >> order)
            for places, after in zip(found, following, strict=False)
        ]
        known = list(filter(None, found))
    return (*matches, *[0] * (ORDERS - len(matches)))


def _surplus(known: Sequence[int], references: Sequence[int]) -> int:
    """Return how many of the n-grams at the places *known* no reference has as often."""
    surplus = 0
    for places in set(known):
        count = known.count(places)
        if count > 1:
            most = max([(places & reference).bit_count() for reference in references])
            surplus += max(0, count - most)
    return surplus


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
