"""Cells that hold the text of a Python list, such as several right answers."""

from __future__ import annotations

import ast
import warnings

#: Longest literal that is parsed; nested or endless ones end as errors.
_MAX_LITERAL = 2**20


def string_list(text: str) -> list[str] | None:
    """Return the list of strings that *text* spells, None if it does not spell one.

    Only a literal is read; nothing is evaluated.  Members that are not strings
    become strings, as in the reference evaluator.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _MAX_LITERAL:
        return None
    try:
        with warnings.catch_warnings():
            # "\d" in a literal is a SyntaxWarning in some Python versions.
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return [str(member) for member in value] if isinstance(value, list) else None
