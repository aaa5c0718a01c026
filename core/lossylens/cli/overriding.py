"""Commands that take ``key=value`` after a configuration, and are often given ``--key value``."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from lossylens.errors import ConfigError
from lossylens.names import canonical, nearest

if TYPE_CHECKING:
    from lossylens.options.optiondocs import OptionDoc


class TakesOverrides(TyperCommand):
    """Answers an unknown option with the key of the configuration that it may mean."""

    def keys(self) -> Iterable[OptionDoc]:
        """Yield the keys that the configuration of the command has."""
        from lossylens.cli.config_command import Section, section_docs

        for section in Section:
            yield from section_docs(section)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command.

        Raises:
            ConfigError: an option is unknown that is a key of the configuration.
        """
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # Of the class NoSuchOption, whose module depends on the version of typer.
            option = getattr(error, "option_name", "") if hasattr(error, "possibilities") else ""
            own = [name for each in self.params for name in each.opts if name.startswith("--")]
            key = meant(option, given, list(self.keys()), own)
            if not key:
                raise
            raise ConfigError(
                f"no option {option}. Did you mean {key}? Keys of the configuration are"
                " given as key=value."
            ) from error


def with_keys(keys: Callable[[], Iterable[OptionDoc]]) -> type[TakesOverrides]:
    """Return the class of a command whose configuration has other keys."""

    class Command(TakesOverrides):
        def keys(self) -> Iterable[OptionDoc]:
            return keys()

    return Command


def meant(
    option: str, arguments: Sequence[str], keys: Sequence[OptionDoc], options: Sequence[str]
) -> str:
    """Return the ``key=value`` that an unknown option stands for, or ``""``.

    Args:
        option: such as ``--limit``.
        arguments: all that was given.
        keys: of the configuration.
        options: of the command itself, which may be meant as well.
    """
    name = option.lstrip("-")
    if not option.startswith("--") or not name:
        return ""
    value = _value_of(option, arguments)
    sections = {each.name.partition(".")[0] for each in keys if "." in each.name}
    section, dot, _ = name.partition(".")
    found = _find(name, keys)
    if found is None and dot and section in sections:
        return f"{name}={value or 'VALUE'}"
    if found is None and name.startswith("no-"):
        found = _find(name.removeprefix("no-"), keys)
        return f"{found.name}=false" if found and found.holds is bool else ""
    if found is None:
        near = nearest(name, [*(_last(each) for each in keys), *options], limit=1)
        found = _find(near[0], keys) if near else None
    if found is None:
        return ""
    if found.holds is bool:
        return f"{found.name}={value if value in ('true', 'false') else 'true'}"
    if list in (typing.get_origin(each) for each in (found.holds, *typing.get_args(found.holds))):
        value = value if value.startswith("[") else f"[{value or 'VALUE'}]"
    return f"{found.name}={value or 'VALUE'}"


def _find(name: str, keys: Sequence[OptionDoc]) -> OptionDoc | None:
    """Return the key called *name*, with its section or without."""
    wanted = canonical(name)
    names = [(canonical(each.name), canonical(_last(each)), each) for each in keys]
    whole = [each for full, _, each in names if full == wanted]
    return next(iter([*whole, *(each for _, last, each in names if last == wanted)]), None)


def _last(key: OptionDoc) -> str:
    return key.name.rpartition(".")[2]


def _value_of(option: str, arguments: Sequence[str]) -> str:
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name != option:
            continue
        if equals:
            return value
        after = arguments[place + 1] if place + 1 < len(arguments) else ""
        return "" if after.startswith("-") or "=" in after else after
    return ""
