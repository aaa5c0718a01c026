"""A caption and its references as words, and which words they share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count
from typing import Any, NamedTuple


class Words(NamedTuple):
    """A caption and its references, split into words."""

    caption: list[str]
    references: list[list[str]]


class Overlap(NamedTuple):
    """Where the words of a caption stand in its references, as bits of numbers.

    The references lie one behind the other, with a place between any two that no word
    takes, so that a few operations on numbers look at all of them at once.

    Attributes:
        places: per word of the caption, the places of the same word.
        references: per reference, all its places.
        lengths: of the references, in words.
    """

    places: list[int]
    references: list[int]
    lengths: list[int]


def split_words(caption: str, references: Sequence[str]) -> tuple[Words, Words]:
    """Return the words that any whitespace separates, and those that single blanks separate.

    BLEU and CIDEr see the former, ROUGE-L the latter: there two blanks in a row
    enclose an empty word, and newlines and tabs stay in their words.  Where both are
    equal, as usual, they are one object.
    """
    by_whitespace = Words(caption.split(), list(map(str.split, references)))
    # Of all whitespace the blank alone is printable, and two in a row enclose an empty word.
    whole = f" {caption} {' '.join(references)} "
    if whole.isprintable() and "  " not in whole:
        return by_whitespace, by_whitespace
    return by_whitespace, Words(
        caption.split(" "), [reference.split(" ") for reference in references]
    )


def overlap(words: Words) -> Overlap:
    """Return which words of a caption its references have, and where."""
    places = dict.fromkeys(words.caption, 0)
    everything: list[Any] = []
    references = []
    for reference in words.references:
        start = 1 << len(everything)
        everything += reference
        references.append((1 << len(everything)) - start)
        everything.append(None)  # no word
    # Few words are shared; these lines pass over the others without a step of Python's.
    for place in compress(count(), map(places.__contains__, everything)):
        places[everything[place]] |= 1 << place
    lengths = list(map(len, words.references))
    return Overlap(list(map(places.__getitem__, words.caption)), references, lengths)
