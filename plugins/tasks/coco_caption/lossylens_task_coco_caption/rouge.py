"""ROUGE-L (Lin, 2004) as ``pycocoevalcap`` computes it, of words between single blanks."""

from __future__ import annotations

from collections.abc import Sequence

from lossylens_task_coco_caption.words import Words

#: Weight of recall against precision.
BETA = 1.2


def rouge_l(words: Words) -> float:
    """Return ROUGE-L of one caption, in 0 to 1.

    The best precision and the best recall may come from different references.
    """
    caption, references = words
    positions = _positions(caption)
    most, recall = 0, 0.0
    for reference in references:
        shared = list(filter(None, map(positions.get, reference)))
        # At most so many are common; most references need no closer look.
        if len(shared) > most or len(shared) > recall * len(reference):
            common = _longest_common(shared, len(caption))
            most = max(most, common)
            recall = max(recall, common / len(reference))
    if not most:
        return 0.0
    precision = most / len(caption)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _positions(caption: Sequence[str]) -> dict[str, int]:
    """Return each word's positions as the bits of a number."""
    positions: dict[str, int] = {}
    for place, word in enumerate(caption):
        positions[word] = positions.get(word, 0) | 1 << place
    return positions


def _longest_common(shared: Sequence[int], length: int) -> int:
    """Return the length of the longest common subsequence of two sequences.

    Bit-parallel (Hyyrö, 2004): one step per word that the sequences share,
    whatever their lengths.  Bits that are cleared count.

    Args:
        shared: positions in the first sequence, as bits, of the words of the
            second.
        length: of the first sequence.
    """
    full = (1 << length) - 1
    state = full
    for bits in shared:
        matches = state & bits
        # Carries beyond the first sequence do no harm.
        state = (state + matches) | (state - matches)
    return length - (state & full).bit_count()
