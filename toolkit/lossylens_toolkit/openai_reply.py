"""What the body of a reply of the OpenAI chat interface says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

# Types of the parts of a content: what was answered, and what was thought before.
_TEXT = {None, "text", "output_text"}
_THOUGHT = {"thinking", "redacted_thinking", "reasoning"}
# What is said of an input, unless it is said of whoever sent it.
_MODERATION = re.compile(
    r"moderat|flagged|content.{0,3}(filter|polic|management)|safety|harmful|inappropriate", re.I
)
_ACCOUNT = re.compile(
    r"account|organi[sz]ation|api.?key|credential|permission|billing|subscription|tenant|project",
    re.I,
)
_SEARCHED = 10_000


@dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Attributes:
        text: the answer, without the reasoning that some servers send beside it.
        finish: why it ended: ``stop``, ``length`` ...; ``""`` if the server did not say.
        usage: ``input_tokens``, ``cached_tokens`` (those of the input that the
            server had in its prefix cache), ``output_tokens`` and ``cost``, as far
            as the server tells.
    """

    text: str
    finish: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)


class NoTextError(Exception):
    """A message holds no answer; the text of the error says what it holds."""


def parsed(content: bytes) -> Any:
    """Return the JSON value in *content*, None if it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def read_text(message: Mapping[str, Any], finish: str) -> str:
    """Return the answer in *message*: its content, or the texts in the parts of that.

    Raises:
        NoTextError: there is nothing in it but blanks.
    """
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    text = "".join(_text(part) for part in parts)
    if text.strip():
        return text
    refusals = [message.get("refusal"), *(part.get("refusal") for part in parts if _is_map(part))]
    if refusal := next((each for each in refusals if each), None):
        raise NoTextError(f"the model wrote nothing (refused: {refusal})")
    if not all(map(_may_be_empty, parts)):
        raise NoTextError(f"the content of the reply is no text: {_shown(content)}")
    raise NoTextError(f"the model wrote nothing (it ended with {finish or 'no reason'})")


def _text(part: Any) -> str:
    """Return the text of a part of a content, ``""`` if it is something else."""
    text = part.get("text") if _is_map(part) and part.get("type") in _TEXT else part
    return text if isinstance(text, str) else ""


def _may_be_empty(part: Any) -> bool:
    """Return whether a part in which no text was found is of a form that is known."""
    if _is_map(part):
        kind = part.get("type")
        return kind in _THOUGHT or (kind in _TEXT and isinstance(part.get("text"), str))
    return part is None or isinstance(part, str)


def _is_map(part: Any) -> TypeGuard[dict[str, Any]]:
    # A type that cannot be hashed could not be looked up.
    return isinstance(part, dict) and isinstance(part.get("type"), str | None)


def _shown(content: Any) -> str:
    try:
        return json.dumps(content, ensure_ascii=False)
    except RecursionError:
        return "something deeply nested"


def said(body: Any) -> str:
    """Return what a server says of an error, ``""`` if nothing."""
    error = body.get("error", body) if isinstance(body, dict) else None
    message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def error_code(body: Any) -> str:
    """Return the code or type of an error, ``""`` if there is none."""
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("code") or error.get("type")) if isinstance(error, dict) else ""


def is_moderation(body: Any) -> bool:
    """Return whether a refusal speaks of what was asked rather than of who asked."""
    text = _shown(body)[:_SEARCHED]
    return bool(_MODERATION.search(text)) and not _ACCOUNT.search(text)


def read_usage(usage: Any) -> dict[str, float]:
    """Return the amounts that :class:`Reply` keeps of a reply's ``usage``."""
    if not isinstance(usage, dict):
        return {}
    details = usage.get("prompt_tokens_details")
    values = {
        "input_tokens": usage.get("prompt_tokens"),
        "cached_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
        "output_tokens": usage.get("completion_tokens"),
        "cost": usage.get("cost"),
    }
    return {name: value for name, value in values.items() if _is_amount(value)}


def _is_amount(value: Any) -> TypeGuard[float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < 1e15
