"""How the reference evaluator reads a choice out of an answer (MMBench, SEEDBench, MMMU).

Exact matching, without an LLM judge, on the effective text.  The choices are
the letters of the row's options that are not missing.

Letter stage:

1. A text that says that the API failed skips this stage.
2. A text with one of the known refusals is ``Z``, which is always wrong, even
   if a letter follows.
3. ``. ( ) [ ] , : ; ! * # { }`` become blanks; what whitespace separates are the
   tokens.  Other characters (quotes, ``?``, ``/``, ``-``) stay in their tokens.
4. If exactly one choice letter occurs among the tokens, it is taken, provided
   that its first occurrence is among the last four tokens.  The article ``A``
   counts as the letter.  If none occurs and ``Z`` does, the answer is ``Z``.

Text stage, if the letter stage gave nothing: the answer and the options are
lower-cased; an answer more than twice as long as all options together gives
nothing; if exactly one option is contained in the answer, it is taken.

Newer versions of the evaluator also look for ``answer is X`` in the letter
stage; the version that the published results were made with does not, and
neither does this.
"""

from __future__ import annotations

import string
from collections.abc import Mapping

#: The answer that is always wrong.
REFUSED = "Z"

#: Names of the option columns.
OPTION_LETTERS = tuple(string.ascii_uppercase)

_API_FAILURE = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_BLANKED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_TOKENS = 4
_LENGTH_FACTOR = 2


def extract_choice(text: str, options: Mapping[str, str]) -> str | None:
    """Return the letter that *text* chooses among *options*, None if none can be read.

    Args:
        text: the effective prediction.
        options: letter to option text, missing options left out.
    """
    return _by_letter(text, options) or _by_text(text, options)


def _by_letter(text: str, options: Mapping[str, str]) -> str | None:
    if _API_FAILURE in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return REFUSED
    tokens = text.translate(_BLANKED).split()
    present = set(tokens)
    letters = [letter for letter in options if letter in present]
    if not letters:
        return REFUSED if REFUSED in present else None
    if len(letters) > 1 or tokens.index(letters[0]) < len(tokens) - _LAST_TOKENS:
        return None
    return letters[0]


def _by_text(text: str, options: Mapping[str, str]) -> str | None:
    lowered = text.lower()
    if len(lowered) > _LENGTH_FACTOR * sum(map(len, options.values())):
        return None
    contained = [letter for letter, option in options.items() if option.lower() in lowered]
    return contained[0] if len(contained) == 1 else None
