"""``key=value`` on the command line, as ``lossylens run`` and ``--option`` take it.

A key may be a path with dots.  A value is text, whose type the option decides that it is
for: YAML would read ``4:2:0`` or ``012`` as a number.  ``null``, lists, mappings and what
is in quotes are read as YAML, with the numbers that JSON has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import yaml

from lossylens.errors import ConfigError

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")

_SPECIAL = {".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


class Untyped(str):
    """Text from the command line, for an option of whatever type."""

    __slots__ = ()

    @property
    def value(self) -> str | int | float | bool:
        """What it is where nothing says its type: a number or switch that is written as one."""
        if self in ("true", "false"):
            return self == "true"
        return _number(self) if _NUMBER.fullmatch(self) else _SPECIAL.get(self, str(self))

    @property
    def special(self) -> float | None:
        """The number that YAML writes with a dot, ``.inf``, ``-.inf`` or ``.nan``, if it is one."""
        return _SPECIAL.get(self)


def assign(values: dict[Any, Any], pair: str, example: str = "key=value") -> list[str]:
    """Put ``key=value`` into *values*; return the path of the key.

    Args:
        values: nested mappings; those on the path that are missing are made.
        pair: what was given.  Its key is split at its dots, but not at those in keys that
            are there, as in ``vlms.qwen2.5.device``.
        example: of what is expected, for the error.

    Raises:
        ConfigError: no ``=``, no key, broken YAML, or part of the path is no mapping.
    """
    path, equals, text = pair.partition("=")
    if not equals or not all(path.split(".")):
        raise ConfigError(f"{pair!r}: expected {example}")
    value = _value(pair, text)
    node: Any = values
    *parents, last = keys = _keys(values, path)
    for depth, key in enumerate(parents):
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, MutableMapping):
            raise ConfigError(f"{pair!r}: {'.'.join(parents[: depth + 1])} is not a mapping")
    node[last] = value
    return keys


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """Return what a repeated command-line option says, as a mapping.

    Args:
        pairs: ``key=value``; keys may have dots.
        option: such as ``--option``, for errors.

    Raises:
        ConfigError: as for :func:`assign`, or a key is given twice.
    """
    values: dict[str, Any] = {}
    seen = set()
    for pair in pairs:
        try:
            key = tuple(assign(values, pair))
        except ConfigError as error:
            raise ConfigError(f"{option} {error}") from error
        if key in seen:
            raise ConfigError(f"{option} {pair!r}: {'.'.join(key)} is given twice")
        seen.add(key)
    return values


def typed(value: Any) -> Any:
    """Return *value* with the text in it that is :class:`Untyped` as what it looks like."""
    if isinstance(value, Untyped):
        return value.value
    if isinstance(value, Mapping):
        return {key: typed(each) for key, each in value.items()}
    return value


def plain_text(value: Any) -> Any:
    """Return *value* with no :class:`Untyped` in it, which OmegaConf does not take."""
    if isinstance(value, Mapping):
        return {key: plain_text(each) for key, each in value.items()}
    return str(value) if isinstance(value, Untyped) else value


def _value(pair: str, text: str) -> Any:
    if text == "null":
        return None
    quoted = len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]
    if not (quoted or text.startswith(("[", "{"))):
        return Untyped(text)
    try:
        # A subclass of the safe loader.
        return yaml.load(text, _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{pair!r}: malformed value: {reason}") from error


class _Loader(yaml.SafeLoader):
    """YAML whose plain numbers, switches and null are JSON's."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as in PyYAML

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Return the number in *node*."""
        return _number(node.value)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(null)?$"), ["n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(true|false)$"), ["t", "f"])
_Loader.add_implicit_resolver("!number", re.compile(f"(?:{_NUMBER.pattern})$"), [*"-0123456789"])
_Loader.add_implicit_resolver("!number", re.compile(r"(-?\.inf|\.nan)$"), ["-", "."])
_Loader.add_constructor("!number", _Loader.construct_number)


def _number(text: str) -> int | float:
    if text in _SPECIAL:
        return _SPECIAL[text]
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _keys(node: Any, path: str) -> list[str]:
    """Split *path* at its dots, except those in keys that are there."""
    keys = []
    while path:
        known = [key for key in node if _begins(path, key)] if isinstance(node, dict) else []
        key = max(known, key=len) if known else path.partition(".")[0]
        keys.append(key)
        path = path[len(key) + 1 :]
        node = node.get(key) if isinstance(node, dict) else None
    return keys


def _begins(path: str, key: Any) -> bool:
    return isinstance(key, str) and f"{path}.".startswith(f"{key}.")
