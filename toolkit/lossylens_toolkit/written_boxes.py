"""Boxes that models write, as four numbers: VLMs and tasks read them alike.

What the numbers are is another matter: fractions, thousandths, pixels of one picture or another.
"""

from __future__ import annotations

import re

#: Four numbers in the order in which they are written; for most models left, top, right, bottom.
Numbers = tuple[float, float, float, float]

# Once a number is read, no part of it is given back: what follows a part is never a
# separator, so that nothing else is found, and long texts take no time.
_NUMBER = r"(?>[-+]?(?:\d*\.)?\d+(?:[eE][-+]?\d+)?)"
_SEPARATOR = r"(?:\s*,\s*|\s+)"
_BOX = re.compile(r"\[\s*" + _SEPARATOR.join([f"({_NUMBER})"] * 4) + r"\s*\]")
_NUMBERS = re.compile(_NUMBER)


def four_numbers(text: str) -> Numbers | None:
    """Return the box in *text*, None if there is none.

    It is the first four numbers in square brackets, between commas or blanks, else the first
    four numbers anywhere.
    """
    found = _BOX.search(text)
    if found is not None:
        return _numbers(found.groups())
    texts = [each.group() for each, _ in zip(_NUMBERS.finditer(text), range(4), strict=False)]
    return _numbers(texts) if len(texts) == 4 else None


def _numbers(texts: list[str] | tuple[str, ...]) -> Numbers:
    first, second, third, fourth = map(float, texts)
    return first, second, third, fourth
