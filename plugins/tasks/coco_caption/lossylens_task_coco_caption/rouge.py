"""ROUGE-L (Lin, 2004) as ``pycocoevalcap`` computes it.

Tokens are what single blanks separate, so that two blanks in a row enclose an
empty token, and newlines and tabs stay in their tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Weight of recall against precision.
BETA = 1.2


def rouge_l(caption: str, references: Sequence[str]) -> float:
    """Return ROUGE-L of one caption, in 0 to 1.

    The best precision and the best recall may come from different references.
    """
    tokens = caption.split(" ")
    positions = _positions(tokens)
    precision = recall = 0.0
    for reference in references:
        other = reference.split(" ")
        common = _longest_common(positions, len(tokens), other)
        precision = max(precision, common / len(tokens))
        recall = max(recall, common / len(other))
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _positions(tokens: Sequence[str]) -> dict[str, int]:
    """Return each token's positions as the bits of a number."""
    positions: dict[str, int] = {}
    for place, token in enumerate(tokens):
        positions[token] = positions.get(token, 0) | 1 << place
    return positions


def _longest_common(positions: Mapping[str, int], length: int, other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    Bit-parallel (Hyyrö, 2004): one step per token of *other*, whatever the
    length of the first sequence.  Bits that are cleared count.
    """
    full = (1 << length) - 1
    state = full
    for bits in [positions[token] for token in other if token in positions]:
        matches = state & bits
        state = ((state + matches) | (state - matches)) & full
    return length - state.bit_count()
