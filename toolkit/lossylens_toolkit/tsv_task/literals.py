"""Cells that hold the text of a Python list, such as several right answers."""

from __future__ import annotations

import ast
import re
import warnings

#: Longest literal that is parsed; nested or endless ones end as errors.
_MAX_LITERAL = 2**20

_PLAIN_STRING = """'[^']*'|"[^"]*\""""
_PLAIN_LIST = re.compile(rf"\[(?:{_PLAIN_STRING})(?:, ?(?:{_PLAIN_STRING}))*\]")
_PLAIN_STRINGS = re.compile(_PLAIN_STRING)


def string_list(text: str) -> list[str] | None:
    """Return the list of strings that *text* spells, None if it does not spell one.

    Only a literal is read; nothing is evaluated.  Members that are not strings
    become strings, as in the reference evaluator.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _MAX_LITERAL:
        return None
    return _plain_list(text) or _parsed_list(text)


def _plain_list(text: str) -> list[str] | None:
    """Return the list if it needs no parser, as nearly all; reading it so is much faster."""
    # Characters that escape others, or that end a string or a program.
    if "\\" in text or "\n" in text or "\r" in text or "\0" in text:
        return None
    members = text[2:-2].split("', '")
    if text.startswith("['") and text.endswith("']") and text.count("'") == 2 * len(members):
        return members
    if _PLAIN_LIST.fullmatch(text):
        return [string[1:-1] for string in _PLAIN_STRINGS.findall(text)]
    return None


def _parsed_list(text: str) -> list[str] | None:
    try:
        with warnings.catch_warnings():
            # "\d" in a literal is a SyntaxWarning in some Python versions.
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return [str(member) for member in value] if isinstance(value, list) else None
