"""ROUGE-L (Lin, 2004) as ``pycocoevalcap`` computes it, of words between single blanks."""

from __future__ import annotations

from operator import truediv

from lossylens_task_coco_caption.words import Overlap

#: Weight of recall against precision.
BETA = 1.2


def rouge_l(overlap: Overlap) -> float:
    """Return ROUGE-L of one caption, in 0 to 1.

    The best precision and the best recall may come from different references.
    """
    state = _without_common(overlap)
    common = [(reference & ~state).bit_count() for reference in overlap.references]
    most = max(common)
    if not most:
        return 0.0
    recall = max(map(truediv, common, overlap.lengths))
    precision = most / len(overlap.places)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _without_common(overlap: Overlap) -> int:
    """Return all places but as many of each reference as its longest common subsequence has.

    Bit-parallel (Hyyrö, 2004), in all references at once: one step per word of the
    caption that a reference has.
    """
    everywhere = state = sum(overlap.references)
    for places in overlap.places:
        if places:
            matches = state & places
            # A carry out of a reference goes to the place behind it, and is dropped.
            state = ((state + matches) | (state - matches)) & everywhere
    return state
