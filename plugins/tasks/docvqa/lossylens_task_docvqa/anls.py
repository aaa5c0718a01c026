"""Average normalised Levenshtein similarity (Biten et al., ICCV 2019), per answer.

As the reference evaluator has it: texts are compared in lower case and with whitespace
collapsed, but the distance is divided by the length of the texts as they were given, in
upper case, so that blanks around an answer raise its credit.  A similarity of exactly 0.5
counts; the definition of the challenge wants more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count
from operator import ne

#: Least similarity that counts.
THRESHOLD = 0.5


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Return the similarity of *prediction* and the answer nearest to it, 0 below 0.5.

    Args:
        prediction: as it was given.
        answers: at least one.
    """
    said = common_form(prediction)
    least = len(prediction.upper())
    # Answers often differ in case alone; of these the longest is the nearest.
    lengths: dict[str, int] = {}
    for answer in answers:
        form = common_form(answer)
        lengths[form] = max(lengths.get(form, least), len(answer.upper()))
    distances = [_distance(said, form, length) for form, length in lengths.items()]
    similarity = 1 - min(distances)
    return similarity if similarity >= THRESHOLD else 0.0


def common_form(text: str) -> str:
    """Return *text* in lower case, whitespace around it gone and within it one blank."""
    return " ".join(text.lower().split())


def _distance(one: str, other: str, length: int) -> float:
    """Return the distance over *length*; 1 for one that is too large to count."""
    if one == other:
        return 0.0
    # No shorter way from one to the other than what one is longer.
    if abs(len(one) - len(other)) > length * (1 - THRESHOLD):
        return 1.0
    return levenshtein(one, other) / length


def levenshtein(one: str, other: str) -> int:
    """Return how many characters must be inserted, deleted or replaced.

    A column of the table is kept as two integers, whose bits say where the value rises and
    where it falls from one row to the next (Hyyrö, A Bit-Vector Algorithm for Computing
    Levenshtein and Damerau Edit Distances, 2003).
    """
    # What both begin and end with costs nothing.
    begin = _alike(one, other)
    one, other = one[begin:], other[begin:]
    end = _alike(one[::-1], other[::-1])
    one, other = one[: len(one) - end], other[: len(other) - end]
    if not one or not other:
        return len(one) + len(other)
    places: dict[str, int] = {}
    for row, character in enumerate(one):
        places[character] = places.get(character, 0) | 1 << row
    every = (1 << len(one)) - 1
    bottom = 1 << len(one) - 1
    rises, falls, distance = every, 0, len(one)
    for character in other:
        equal = places.get(character, 0)
        kept = (((equal & rises) + rises) ^ rises) | equal
        right_rises = falls | (every & ~(kept | rises))
        right_falls = rises & kept
        if right_rises & bottom:
            distance += 1
        elif right_falls & bottom:
            distance -= 1
        shifted = right_rises << 1 | 1
        carried = equal | falls
        rises = (right_falls << 1 | ~(carried | shifted)) & every
        falls = shifted & carried & every
    return distance


def _alike(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    return next(compress(count(), map(ne, one, other)), min(len(one), len(other)))
