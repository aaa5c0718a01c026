"""How MMMU's authors score open questions (github.com/MMMU-Benchmark/MMMU).

1. A reply is lower-cased and divided into lines.  Of a line that holds one of the phrases
   that precede an answer (``is``, ``so``, ``therefore`` ...; in the last line also ``=``),
   what follows is kept: the shortest of what follows the last of each phrase.  If nothing
   is kept, the whole reply is.
2. Candidates are these texts and the numbers in them.  Numbers are rounded to two digits
   behind the point, with commas left out; a text of one character stands for itself next
   to a blank.
3. The reply is right if an answer is one of the numbers, or contained in one of the texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lossylens_toolkit.tsv_task import string_list

_PHRASES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_LAST_PHRASE = "="
_TRIVIAL = frozenset(":,.!?;'")

# In turn: with commas between thousands, with an exponent, and plain.
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def is_right(prediction: str, answer: str) -> bool:
    """Whether *prediction* is right by this rule.

    Args:
        prediction: the whole reply.
        answer: a text, or the text of a list of which any member will do.
    """
    wanted = _forms(string_list(answer) or [answer])
    texts = [form for form in wanted if isinstance(form, str)]
    for form in _forms(_candidates(prediction)):
        if isinstance(form, str):
            if any(text in form for text in texts):
                return True
        elif form in wanted:
            return True
    return False


def _candidates(prediction: str) -> list[str]:
    reply = prediction.strip().strip(".").lower()
    *lines, last = reply.split("\n")
    found = [_behind(line, _PHRASES) for line in lines]
    found.append(_behind(last, (*_PHRASES, _LAST_PHRASE)))
    kept = [text for text in found if text and text not in _TRIVIAL] or [reply]
    return kept + [number for text in kept for form in _NUMBERS for number in form.findall(text)]


def _behind(line: str, phrases: Iterable[str]) -> str:
    """Return the shortest of what follows the last of each phrase; one that is empty gives way."""
    shortest = ""
    for phrase in phrases:
        if phrase in line:
            rest = line.split(phrase)[-1].strip()
            if not shortest or len(rest) < len(shortest):
                shortest = rest
    return shortest


def _forms(texts: Iterable[str]) -> list[str | float]:
    forms: list[str | float] = []
    for text in map(str.strip, texts):
        try:
            forms.append(round(float(text.replace(",", "")), 2))
        except ValueError:
            lowered = text.lower()
            forms += [f" {lowered}", f"{lowered} "] if len(lowered) == 1 else [lowered]
    return forms
