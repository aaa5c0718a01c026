"""Whether the values in a declaration are of the types that its class states."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any


def type_problems(declaration: Any, declared: type, name: str = "") -> Iterator[str]:
    """Yield what is of another type than the fields of a dataclass state, in words.

    Lists pass for tuples and whole numbers for floats; callables are not called.

    Args:
        declaration: an instance of the dataclass, or of a class derived from it.
        declared: the dataclass.
        name: under which its fields are named, ``""`` for the outermost.
    """
    for field, hint in _hints(declared).items():
        path = f"{name}.{field}" if name else field
        yield from _problems(getattr(declaration, field), hint, path)


@lru_cache
def _hints(declared: type) -> dict[str, Any]:
    hints = typing.get_type_hints(declared)
    return {field.name: hints[field.name] for field in dataclasses.fields(declared)}


def _problems(value: Any, hint: Any, path: str) -> Iterator[str]:
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any:
        return
    if origin in (typing.Union, types.UnionType):
        if all(any(_problems(value, each, path)) for each in arguments):
            yield _wrong(value, hint, path)
        return
    if origin is collections.abc.Callable:
        if not callable(value):
            yield _wrong(value, hint, path)
    elif origin in (tuple, list, Sequence):
        yield from _of_items(value, hint, path)
    elif origin in (dict, Mapping):
        yield from _of_mapping(value, hint, path)
    elif not _is_one(value, origin):
        yield _wrong(value, hint, path)
    elif isinstance(origin, type) and dataclasses.is_dataclass(origin):
        yield from type_problems(value, origin, path)


def _of_items(value: Any, hint: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list | tuple):
        yield _wrong(value, hint, path)
        return
    (item, *_) = typing.get_args(hint) or (Any,)
    for place, each in enumerate(value):
        yield from _problems(each, item, f"{path}[{place}]")


def _of_mapping(value: Any, hint: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _wrong(value, hint, path)
        return
    of_key, of_value = typing.get_args(hint) or (Any, Any)
    for key, each in value.items():
        yield from _problems(key, of_key, f"{path}: key {key!r}")
        yield from _problems(each, of_value, f"{path}[{key!r}]")


def _is_one(value: Any, wanted: Any) -> bool:
    if wanted in (int, float) and isinstance(value, bool):
        return False
    if wanted is float:
        return isinstance(value, int | float)
    return not isinstance(wanted, type) or isinstance(value, wanted)


def _wrong(value: Any, hint: Any, path: str) -> str:
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{path} must be {_words(hint)}, not {text} ({type(value).__name__})"


_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    type: "a class",
    type(None): "None",
}


def _words(hint: Any) -> str:
    """Return a type in words."""
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_words, arguments))
    if origin is collections.abc.Callable:
        return "a function"
    if origin in (tuple, list, Sequence):
        return f"a {origin.__name__.lower()}, each item {_words(arguments[0])}"
    if origin in (dict, Mapping):
        return f"a mapping, each value {_words(arguments[1])}"
    name = getattr(hint, "__name__", str(hint))
    return _WORDS.get(hint, f"{'an' if name[0] in 'AEIOU' else 'a'} {name}")
