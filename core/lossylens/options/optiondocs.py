"""What a dataclass of options says about each of them: type, default, and a text.

The text is that of the docstring's section ``Attributes``.  Nothing heavy is imported.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

from lossylens.spec import MANDATORY

_ROLE = re.compile(r":\w+:`~?([^`]+)`")


@dataclasses.dataclass(frozen=True, slots=True)
class OptionDoc:
    """One option.

    Attributes:
        name: its key; of an option within an option, with dots: ``judge.url``.
        type: as annotated, such as ``int | None``; ``mapping`` of what has options of its own.
        required: whether it must be given.
        default: as it is written in a configuration; None where it is null or required.
        text: what it is for; ``""`` where the class does not say.
        holds: the type of its values, as Python has it.
    """

    name: str
    type: str
    required: bool
    default: str | None
    text: str
    holds: Any = dataclasses.field(repr=False)

    @property
    def shown(self) -> str:
        """The default in words."""
        if self.required:
            return "(must be given)"
        return "null" if self.default is None else self.default


def option_docs(options: type, prefix: str = "") -> Iterator[OptionDoc]:
    """Yield the options of a dataclass; those within an option follow it.

    Args:
        options: the dataclass.
        prefix: of their names.
    """
    return _docs(options, None, prefix)


def _docs(options: type, instance: Any, prefix: str) -> Iterator[OptionDoc]:
    texts, hints = _attribute_texts(options), _hints(options)
    for field in dataclasses.fields(options):
        default = _default(field) if instance is None else getattr(instance, field.name)
        required = default is dataclasses.MISSING or default == MANDATORY
        hint = hints.get(field.name, Any)
        inner = _within(hint)
        shown = None if required or default is None else _written(default)
        if inner and default is not None:
            shown = ""
        yield OptionDoc(
            prefix + field.name,
            "mapping" if inner else _type_name(field.type),
            required,
            shown,
            texts.get(field.name, ""),
            hint,
        )
        if inner:
            given = default if isinstance(default, inner) else None
            yield from _docs(inner, given, f"{prefix}{field.name}.")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _hints(options: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(options)
    except Exception:  # names that are imported for type checkers alone
        return {}


def _within(hint: Any) -> type | None:
    """Return the dataclass that an option is of, if it is of one."""
    members = [each for each in typing.get_args(hint) if each is not type(None)]
    if len(members) == 1 and type(None) in typing.get_args(hint):
        hint = members[0]
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def _type_name(hint: Any) -> str:
    if isinstance(hint, str):
        return hint
    return hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)


def _written(value: Any) -> str:
    """Return a default as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value if isinstance(value.value, str) else value.name)
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_written(each)}' for key, each in value.items())}}}"
    return str(value) or '""'


def _attribute_texts(options: type) -> dict[str, str]:
    """Return the texts in the sections ``Attributes`` of a class and its bases, by name."""
    texts: dict[str, str] = {}
    for each in reversed(options.__mro__):
        texts |= _section(inspect.cleandoc(vars(each).get("__doc__") or ""))
    return texts


def _section(docstring: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    names: list[str] = []
    _, _, section = f"\n{docstring}".partition("\nAttributes:\n")
    indent = len(section) - len(section.lstrip(" "))
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        start = re.match(r"(\w+(?:, \w+)*): ?(.*)", line[indent:])
        if start and not line[:indent].strip():
            names = start[1].split(", ")
            texts |= dict.fromkeys(names, start[2])
        else:
            for name in names:
                texts[name] = f"{texts[name]} {line.strip()}"
    return {name: _plain(text) for name, text in texts.items()}


def _plain(text: str) -> str:
    """Return *text* without the marks of documentation."""
    return " ".join(_ROLE.sub(r"\1", text).replace("``", "").split())
