"""CIDEr (Vedantam et al., CVPR 2015) as ``pycocoevalcap`` computes it.

Tokens are what any whitespace separates; nothing is stemmed, lower-cased or
removed.  N-grams are weighted by how few of the images have them in their
references, so a score depends on the whole set of images.  What the code
computes differs from the paper's CIDEr: an n-gram of the caption counts at most
as often as in the reference, and captions of another length than the reference,
counted in bigrams, are worth less.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ORDERS = 4
SIGMA = 6.0
SCALE = 10.0

Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Vector:
    """A caption as weighted n-grams.

    Attributes:
        weights: per order, the weight of each n-gram.
        norms: per order.
        length: number of bigrams.
    """

    weights: list[dict[Ngram, float]]
    norms: list[float]
    length: int


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return CIDEr of each caption, in 0 to 10.

    Args:
        captions: one per image.
        references: of each image, at least one.
    """
    rarity = _rarity(references)
    unseen = math.log(len(references))
    return [
        _score(
            _vector(caption, rarity, unseen),
            [_vector(reference, rarity, unseen) for reference in others],
        )
        for caption, others in zip(captions, references, strict=True)
    ]


def _rarity(references: Sequence[Sequence[str]]) -> dict[Ngram, float]:
    """Return the weight of each n-gram that occurs in a reference."""
    frequency = Counter[Ngram]()
    for each in references:
        tokens = [reference.split() for reference in each]
        for order in range(1, ORDERS + 1):
            frequency.update(set().union(*(_ngrams(other, order) for other in tokens)))
    images = math.log(len(references))
    return {ngram: images - math.log(count) for ngram, count in frequency.items()}


def _ngrams(tokens: Sequence[str], order: int) -> Iterable[Ngram]:
    return zip(*(tokens[start:] for start in range(order)), strict=False)


def _vector(text: str, rarity: Mapping[Ngram, float], unseen: float) -> _Vector:
    tokens = text.split()
    weights = [
        {
            ngram: count * rarity.get(ngram, unseen)
            for ngram, count in Counter(_ngrams(tokens, order)).items()
        }
        for order in range(1, ORDERS + 1)
    ]
    norms = [math.sqrt(sum(weight**2 for weight in each.values())) for each in weights]
    return _Vector(weights, norms, max(0, len(tokens) - 1))


def _score(caption: _Vector, references: Sequence[_Vector]) -> float:
    total = sum(_similarity(caption, reference) for reference in references)
    return SCALE * total / ORDERS / len(references)


def _similarity(caption: _Vector, reference: _Vector) -> float:
    """Return the sum over orders of the similarity of two captions."""
    similarity = 0.0
    for order in range(ORDERS):
        other = reference.weights[order]
        product = sum(
            min(weight, other[ngram]) * other[ngram]
            for ngram, weight in caption.weights[order].items()
            if ngram in other
        )
        if product:
            similarity += product / (caption.norms[order] * reference.norms[order])
    difference = caption.length - reference.length
    return similarity * math.exp(-(difference**2) / (2 * SIGMA**2))
