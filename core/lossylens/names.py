"""How plugin names are compared and how a misspelt one is answered."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def canonical(name: str) -> str:
    """Return *name* in the form in which names are compared.

    Case does not matter, and ``_``, ``-`` and ``.`` (and runs of them) are
    alike, as in package names (PEP 503).
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def nearest(name: str, choices: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to *limit* members of *choices* that *name* may have meant."""
    by_key: dict[str, str] = {}
    for choice in choices:
        by_key.setdefault(canonical(choice), choice)
    matches = difflib.get_close_matches(canonical(name), by_key, n=limit, cutoff=0.5)
    return [by_key[match] for match in matches]


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Return a sentence that names the nearest *choices*, or all when none is near."""
    known = list(choices)
    near = nearest(name, known)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known: {', '.join(sorted(known))}." if known else "None is installed."
