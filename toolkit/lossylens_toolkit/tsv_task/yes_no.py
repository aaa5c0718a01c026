"""How the reference evaluator reads yes or no out of an answer (POPE, MME).

The rules, applied to the effective text:

1. Lower-case.
2. Punctuation (``; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? !``): a character that
   stands next to a blank (U+0020) *anywhere* in the text is deleted
   *everywhere*; one that does not becomes a blank everywhere.  If the text has a
   digit, a comma and a digit in a row anywhere, all punctuation is deleted.
3. Periods with no digit directly before or after are deleted, the first 32 of
   them.
4. The words are what whitespace separates.  ``yes`` among them and ``no`` not
   is Yes, ``no`` and not ``yes`` is No, anything else Unknown.  Other characters
   stay in their words: ``**yes**``, ``'yes'`` and ``yes:`` are Unknown.
"""

from __future__ import annotations

import re
from functools import lru_cache

YES = "Yes"
NO = "No"
UNKNOWN = "Unknown"

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_LONE_PERIOD = re.compile(r"(?<!\d)\.(?!\d)")
_MAX_PERIODS = 32


# Models repeat themselves: most of the answers of a run are a few short texts.
@lru_cache(maxsize=4096)
def extract_yes_no(text: str) -> str:
    """Return ``"Yes"``, ``"No"`` or ``"Unknown"``, by the rules of this module."""
    words = set(without_punctuation(text.lower()).split())
    yes, no = "yes" in words, "no" in words
    if yes == no:
        return UNKNOWN
    return YES if yes else NO


def without_punctuation(text: str) -> str:
    """Apply rules 2 and 3 to a lower-cased text."""
    delete_all = _DIGIT_COMMA_DIGIT.search(text) is not None
    replacements = {
        ord(character): "" if delete_all or _touches_blank(character, text) else " "
        for character in _PUNCTUATION
        if character in text
    }
    return _LONE_PERIOD.sub("", text.translate(replacements), count=_MAX_PERIODS)


def _touches_blank(character: str, text: str) -> bool:
    return f"{character} " in text or f" {character}" in text
