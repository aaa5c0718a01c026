"""Options of a plugin: what a configuration says, checked against a dataclass."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    GrammarParseError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from lossylens.errors import ConfigError, LossylensError, PluginError
from lossylens.names import suggestion
from lossylens.options.environment import reading
from lossylens.options.overrides import Untyped, typed
from lossylens.spec import PATH_IF, PluginSpec

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    bytes: "bytes",
    Path: "a path",
    type(None): "null",
    Any: "anything",
}


def resolve_options(spec: PluginSpec, values: Mapping[str, Any], where: str) -> Any:
    """Return an instance of ``spec.options`` with *values* in place of the defaults.

    Paths are made absolute, after ``~`` in them is expanded, so that what plugins do to the
    working directory changes nothing.  They are all values of type ``Path``, and text in
    fields that are marked by :func:`~lossylens.spec.path_if`.  ``${oc.env:NAME}`` is
    resolved.  Where text is expected, other values are refused, since they may not be what
    was written: ``4.10`` is the number 4.1.

    Args:
        spec: of the plugin whose options these are.
        values: as in a configuration.
        where: path of *values* in the configuration, for error messages.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or none where
            one is needed.
        PluginError: the plugin's dataclass is not one that OmegaConf can take.
    """
    return _absolute(options_as_written(spec, values, where))


def options_as_written(spec: PluginSpec, values: Mapping[str, Any], where: str) -> Any:
    """Return the same as :func:`resolve_options`, with relative paths left relative."""
    with reading() as environment, environment.out_of_messages():
        return _options_as_written(spec, values, where)


def _options_as_written(spec: PluginSpec, values: Mapping[str, Any], where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping of options, got {_shown(values)}.")
    config = _defaults(spec)
    for key, value in values.items():
        config = _merged(config, spec.options, key, value, where)
    try:
        options = OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        path = _path(where, error.full_key)
        expected = _expected(_hint_at(spec.options, str(error.full_key)))
        raise ConfigError(f"{path}: must be given (expected {expected}).") from error
    except InterpolationResolutionError as error:
        raise ConfigError(f"{_path(where, error.full_key)}: {_first_line(error)}.") from error
    except LossylensError:
        raise
    except (ValueError, TypeError) as error:
        # Raised by the dataclass itself, which may check its values.
        raise ConfigError(f"{where}: {error}") from error
    return _with_home(options)


def _defaults(spec: PluginSpec) -> Any:
    try:
        return OmegaConf.structured(spec.options)
    except Exception as error:
        reason = f"options of {spec.kind} {spec.name!r} are malformed: {_first_line(error)}"
        raise PluginError(reason) from error


def _merged(config: Any, options: type, key: Any, value: Any, where: str) -> Any:
    """Return *config* with one more value; by itself, so that an error has its key."""
    hint = _hint_at(options, str(key))
    value = _typed(hint, value)
    _refuse_slips(hint, value, _path(where, key))
    try:
        return OmegaConf.merge(config, {key: value})
    except ConfigKeyError as error:
        if "." in str(key):
            nested = ": {".join(str(key).split("."))
            hint = f"A key within a key is written {nested}: ...{'}' * str(key).count('.')}."
            raise ConfigError(f"{where}: unknown option {str(key)!r}. {hint}") from error
        raise ConfigError(_unknown(options, error.full_key or str(key), where)) from error
    except GrammarParseError as error:
        message = f"{_path(where, key)}: malformed '${{...}}' in {_shown(value)}."
        raise ConfigError(message) from error
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        full_key = getattr(error, "full_key", None) or str(key)
        # Within a nested value the error knows which part of it is at fault.
        given = value if full_key == str(key) else getattr(error, "value", value)
        raise _unexpected(_hint_at(options, full_key), given, _path(where, full_key)) from error


def _typed(hint: Any, value: Any) -> Any:
    """Return *value* with text of the command line made numbers where no type says more."""
    hint = _without_null(hint)
    if hint is Any:
        return typed(value)
    if isinstance(value, Mapping):
        return {key: _typed(_inner(hint, str(key)), each) for key, each in value.items()}
    if not isinstance(value, Untyped):
        return value
    return value.special if hint is float and value.special is not None else str(value)


def _refuse_slips(hint: Any, value: Any, path: str) -> None:
    """Refuse what OmegaConf would convert though it is surely a mistake, at any depth.

    It takes any number for a bool.  Where text is expected, it makes text of what YAML
    made of unquoted text: ``no`` becomes ``"False"``, and ``4.10`` becomes ``"4.1"``.

    Raises:
        ConfigError: *value* has one.
    """
    may_be_null, hint = hint is not _without_null(hint), _without_null(hint)
    if hint is bool and isinstance(value, int | float) and not isinstance(value, bool):
        raise _unexpected(hint, value, path)
    null = value is None and may_be_null
    if hint is str and not null and not isinstance(value, str | list | tuple | Mapping):
        raise _unexpected(hint, value, path)
    if isinstance(value, list | tuple):
        for number, member in enumerate(value):
            _refuse_slips(_inner(hint, str(number)), member, f"{path}[{number}]")
    if isinstance(value, Mapping):
        names_are_text = _is_options(hint) or get_args(hint)[:1] == (str,)
        for name, member in value.items():
            if names_are_text and not isinstance(name, str):
                raise _unexpected(str, name, path, "a key that is ")
            _refuse_slips(_inner(hint, str(name)), member, f"{path}.{name}")


def _unexpected(hint: Any, value: Any, path: str, what: str = "") -> ConfigError:
    remedy = ""
    if _may_be_text(hint) and not isinstance(value, str | list | tuple | Mapping):
        remedy = " Put it in quotation marks if it is text."
    return ConfigError(f"{path}: expected {what}{_expected(hint)}, got {_shown(value)}.{remedy}")


def _may_be_text(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return any(isinstance(each, str) for each in get_args(hint))
    if _is_union(hint):
        return any(_may_be_text(each) for each in get_args(hint))
    return hint in (str, Path) or (isinstance(hint, type) and issubclass(hint, Enum))


def _unknown(options: type, full_key: str, where: str) -> str:
    parent, _, _ = full_key.rpartition(".")
    owner = _hint_at(options, parent) if parent else options
    known = [field.name for field in dataclasses.fields(owner)] if _is_options(owner) else []
    hint = suggestion(full_key.rpartition(".")[2], known) if known else "It takes no options."
    return f"{_path(where, full_key)}: unknown option. {hint}"


def _hint_at(options: type, full_key: str) -> Any:
    """Return the type at a path such as ``sub.list[1]``, or Any where that is unclear."""
    hint: Any = options
    for part in re.findall(r"[^.\[\]]+", full_key):
        hint = _inner(_without_null(hint), part)
    return hint


def _inner(hint: Any, part: str) -> Any:
    if _is_options(hint):
        return typing.get_type_hints(hint).get(part, Any)
    arguments = get_args(hint)
    if get_origin(hint) is dict and len(arguments) == 2:
        return arguments[1]
    if get_origin(hint) in (list, tuple, Sequence) and arguments:
        return arguments[0]
    return Any


def _is_options(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _without_null(hint: Any) -> Any:
    members = [each for each in get_args(hint) if each is not type(None)]
    return members[0] if _is_union(hint) and len(members) == 1 else hint


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _expected(hint: Any) -> str:
    """Return a type in words."""
    arguments = get_args(hint)
    if _is_union(hint):
        return " or ".join(_expected(each) for each in arguments)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if get_origin(hint) in (list, tuple, Sequence) or hint in (list, tuple):
        return f"a list, each item {_expected(arguments[0])}" if arguments else "a list"
    if get_origin(hint) is dict or hint is dict:
        return f"a mapping, each value {_expected(arguments[1])}" if arguments else "a mapping"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(_choice(each) for each in hint)}"
    if _is_options(hint):
        return f"a mapping with {', '.join(field.name for field in dataclasses.fields(hint))}"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _choice(member: Enum) -> str:
    """Return how a member is written; both its name and a text value are taken."""
    return member.value if isinstance(member.value, str) else member.name


def _shown(value: Any) -> str:
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if isinstance(value, date):
        text = value.isoformat()
    else:
        text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _path(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _with_home(value: Any) -> Any:
    """Return *value* with ``~`` expanded in all paths that it holds."""
    return _with_paths(value, Path.expanduser)


def _absolute(value: Any) -> Any:
    """Return *value* with all paths that it holds made absolute."""
    return _with_paths(value, lambda path: path.expanduser().absolute(), marked=True)


def _with_paths(value: Any, change: Callable[[Path], Path], marked: bool = False) -> Any:
    """Return *value* with *change* made to its paths, and if *marked* to marked text."""
    if isinstance(value, Path):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_with_paths(each, change, marked) for each in value)
    if isinstance(value, dict):
        return {key: _with_paths(each, change, marked) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            changed = _with_paths(getattr(value, field.name), change, marked)
            if marked and isinstance(changed, str) and _is_path(type(value), field.name, changed):
                changed = str(change(Path(changed)))
            # object.__setattr__ reaches frozen dataclasses as well.
            object.__setattr__(value, field.name, changed)
    return value


def _is_path(options: type, name: str, text: str) -> bool:
    """Whether *text* in a field is a path, which a class may have from one that it extends."""
    for base in options.__mro__:
        field = getattr(base, "__dataclass_fields__", {}).get(name)
        if field is not None and PATH_IF in field.metadata:
            return bool(field.metadata[PATH_IF](text))
    return False
