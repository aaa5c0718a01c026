"""How the reference evaluator reads yes or no out of an answer (POPE, MME).

The rules, applied to the effective text:

1. Lower-case.
2. Punctuation and periods go by rules 2 and 3 of
   :mod:`~lossylens_toolkit.tsv_task.vqa_text`.
3. The words are what whitespace separates.  ``yes`` among them and ``no`` not
   is Yes, ``no`` and not ``yes`` is No, anything else Unknown.  Other characters
   stay in their words: ``**yes**``, ``'yes'`` and ``yes:`` are Unknown.
"""

from __future__ import annotations

from functools import lru_cache

from lossylens_toolkit.tsv_task.vqa_text import without_punctuation

YES = "Yes"
NO = "No"
UNKNOWN = "Unknown"


# Models repeat themselves: most of the answers of a run are a few short texts.
@lru_cache(maxsize=4096)
def extract_yes_no(text: str) -> str:
    """Return ``"Yes"``, ``"No"`` or ``"Unknown"``, by the rules of this module."""
    words = set(without_punctuation(text.lower()).split())
    yes, no = "yes" in words, "no" in words
    if yes == no:
        return UNKNOWN
    return YES if yes else NO
