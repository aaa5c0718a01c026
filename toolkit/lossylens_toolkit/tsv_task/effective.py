"""What the reference evaluator makes of a text before it looks at it.

The evaluator writes data and predictions to an ``.xlsx`` file (``xlsxwriter``)
and reads them back (``openpyxl`` through pandas).  Most texts survive; these do
not:

1. A text that starts with ``=``, or with ``{=`` and ends with ``}``, is taken
   for a formula, whose value is 0: it becomes ``"0"``.
2. A text that starts with ``mailto:``, ``internal:`` or ``external:`` is taken
   for a link and loses these prefixes; ``/`` becomes ``\\`` in an external one.
   A link (also one that starts with ``http://``, ``https://``, ``ftp://`` or
   ``ftps://``) that Excel would find too long is not written at all.
3. A text is cut at 32767 characters.
4. Control characters except tab and newline, and the two noncharacters U+FFFE
   and U+FFFF, become ``_xHHHH_``: a carriage return is read as ``_x000D_``.
   The text ``x005F_`` vanishes.
5. A text that pandas reads as missing (the empty text, ``None``, ``NA``,
   :data:`~lossylens_toolkit.tsv_task.missing.MISSING_TEXTS`) becomes ``"nan"``.

Where versions of ``xlsxwriter`` differ (which links are too long), this follows
3.2, which was current when the published results were made.  Two effects are
left out, because they depend on more than the text: a column
that holds nothing but numbers comes back as numbers (``"007"`` as ``7``), and a
text that is itself spreadsheet markup (``<r>...</r>``) is parsed.
"""

from __future__ import annotations

import re

from lossylens_toolkit.tsv_task.missing import MISSING, MISSING_TEXTS

FORMULA_VALUE = "0"

_MAX_TEXT = 32767
_MAX_LINK = 2079

_LINK = re.compile(r"(?:ftp|http)s?://|mailto:|(?:in|ex)ternal:")
_ESCAPED = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_ESCAPE_OF_ESCAPE = "x005F_"

# Characters that a link holds as ``%`` and two digits, for its length.
_LINK_ESCAPES = re.compile(r'[%" <>\[\]^`{}]')
_LINK_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")


def effective_text(text: str) -> str:
    """Return what the evaluator sees of *text*, by the rules of this module."""
    if text in MISSING_TEXTS:
        return MISSING
    # Nearly all texts end here: nothing in them can be affected.
    if len(text) <= _MAX_TEXT and not _suspect(text):
        return text
    if text.startswith("=") or (text.startswith("{=") and text.endswith("}")):
        return FORMULA_VALUE
    if ":" in text and _LINK.match(text):
        text = _link_text(text)
    text = _ESCAPED.sub(_escape, text[:_MAX_TEXT])
    if _ESCAPE_OF_ESCAPE in text:
        text = text.replace(_ESCAPE_OF_ESCAPE, "")
    return MISSING if text in MISSING_TEXTS else text


def _suspect(text: str) -> bool:
    """Whether *text* may be affected; cheaper than to find out, and never wrongly false."""
    return (
        text.startswith(("=", "{="))
        or ":" in text
        or _ESCAPE_OF_ESCAPE in text
        or not (text.isprintable() or _ESCAPED.search(text) is None)
    )


def _escape(character: re.Match[str]) -> str:
    return f"_x{ord(character.group()):04X}_"


def _link_text(text: str) -> str:
    """Return the visible text of a link, empty for one that is too long."""
    link = text
    if text.startswith("internal:"):
        link = text = text.replace("internal:", "")
    elif text.startswith("external:"):
        link = text = text.replace("external:", "").replace("/", "\\")
    target, _, anchor = link.partition("#")
    if max(_link_length(target), _link_length(anchor)) > _MAX_LINK:
        return ""
    return text.replace("mailto:", "")


def _link_length(link: str) -> int:
    """Return how long *link* is once it is escaped."""
    if _LINK_ESCAPE.search(link):
        return len(link)
    return len(link) + 2 * len(_LINK_ESCAPES.findall(link))
