"""How names are read out of answers, by the two published rules."""

from __future__ import annotations


def begins_with(text: str, name: str) -> bool:
    """Whether *text* begins with *name*, as it is spelt: V2L-Tokenizer's rule."""
    return text.startswith(name)


def is_name(text: str, name: str) -> bool:
    """Whether the first line, else the first sentence, is *name*, case aside: VL-ICL's rule."""
    text = text.strip()
    end = "\n" if "\n" in text else "."
    return text.split(end, 1)[0].strip().lower() == name.lower()
