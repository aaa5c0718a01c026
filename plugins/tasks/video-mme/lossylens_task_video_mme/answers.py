"""How the reference evaluator reads a letter out of an answer to Video-MME."""

from __future__ import annotations

import re

# Two of them are glued, for want of a comma in the evaluator's list, so that ``The best option
# is`` and ``Best answer:`` are left in, whose letters then count.
_REMOVED = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
    "Answer:",
    "Option:",
)
_LETTER = re.compile("[ABCD]")


def first_letter(text: str) -> str:
    """Return the first of the letters A to D in *text*, ``""`` if there is none.

    It is a capital letter wherever it stands, behind what is removed: ``At the dock`` means A.
    """
    text = text.strip()
    for removed in _REMOVED:
        text = text.replace(removed, "")
    found = _LETTER.search(text)
    return found.group() if found else ""
