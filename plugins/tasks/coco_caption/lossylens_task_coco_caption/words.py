"""A caption and its references as words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Words(NamedTuple):
    """A caption and its references, split into words."""

    caption: list[str]
    references: list[list[str]]


def split_words(caption: str, references: Sequence[str]) -> tuple[Words, Words]:
    """Return the words that any whitespace separates, and those that single blanks separate.

    BLEU and CIDEr see the former, ROUGE-L the latter: there two blanks in a row
    enclose an empty word, and newlines and tabs stay in their words.
    """
    by_whitespace = Words(caption.split(), [reference.split() for reference in references])
    by_blanks = Words(
        _by_blanks(caption, by_whitespace.caption),
        list(map(_by_blanks, references, by_whitespace.references)),
    )
    return by_whitespace, by_blanks


def _by_blanks(text: str, by_whitespace: list[str]) -> list[str]:
    # Usually they are the same; words that are shared need not be compared anew.
    return by_whitespace if " ".join(by_whitespace) == text != "" else text.split(" ")
