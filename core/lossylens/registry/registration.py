"""What one plugin registers: checked, and refused where a name is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import pluggy

from lossylens.codec import CodecSpec
from lossylens.errors import PluginError
from lossylens.names import canonical
from lossylens.registry.conforming import type_problems
from lossylens.registry.discovery import CORE, DISABLE_VARIABLE
from lossylens.registry.plugin_info import KINDS, PluginInfo, Registered
from lossylens.spec import PluginSpec

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Registration:
    """What one plugin registers, before it counts."""

    def __init__(
        self, plugin: PluginInfo, taken: Mapping[tuple[str, str], Registered[PluginSpec]]
    ) -> None:
        self.by_name: dict[tuple[str, str], Registered[PluginSpec]] = {}
        self.registered: list[Registered[PluginSpec]] = []
        self._plugin = plugin
        self._taken = taken
        self._problem: PluginError | None = None
        self._closed = False

    def collect(self, manager: pluggy.PluginManager) -> None:
        """Call the registration hooks of a plugin.

        Raises:
            PluginError: a declaration is invalid or its name is taken.
            BaseException: whatever the plugin raises.
        """
        for kind in KINDS:
            hook = getattr(manager.hook, f"register_{kind}s")
            hook(register=lambda spec, kind=kind: self._register(kind, spec))
        self._closed = True
        # A plugin that swallowed the error would be there in part.
        if self._problem:
            raise self._problem

    def _register(self, kind: str, spec: Any) -> None:
        if self._closed:
            raise PluginError(f"register_{kind}s is over: register inside the hook")
        try:
            self._add(kind, spec)
        except PluginError as error:
            self._problem = error
            raise

    def _add(self, kind: str, spec: Any) -> None:
        for problem in _problems(kind, spec):
            raise PluginError(problem)
        found = Registered(spec, self._plugin)
        for name in dict.fromkeys(map(canonical, (spec.name, *spec.aliases))):
            owner = self._taken.get((kind, name)) or self.by_name.get((kind, name))
            if owner:
                raise PluginError(_clash(kind, name, found, owner))
            self.by_name[kind, name] = found
        self.registered.append(found)


def _problems(kind: str, spec: Any) -> Iterator[str]:
    """Yield what is wrong with a declaration."""
    expected = KINDS[kind]
    if not isinstance(spec, expected):
        yield f"register_{kind}s takes a {expected.__name__}, not a {type(spec).__name__}"
        return
    for problem in type_problems(spec, expected):
        yield f"{kind} {spec.name!r}: {problem}"
    for name in (spec.name, *spec.aliases):
        if not _NAME.fullmatch(name.lower()):
            yield f"invalid {kind} name {name!r}: use letters, digits, '.', '_' and '-'"
    if spec.name != spec.name.lower():
        yield f"invalid {kind} name {spec.name!r}: use lower case"
    if not _FACTORY.fullmatch(spec.factory):
        yield f"{kind} {spec.name!r}: factory {spec.factory!r} is not 'package.module:Class'"
    if not is_dataclass(spec.options):
        yield f"{kind} {spec.name!r}: options must be a dataclass, not {spec.options!r}"
    if isinstance(spec, CodecSpec):
        yield from _level_problems(spec)


def _level_problems(spec: CodecSpec) -> Iterator[str]:
    names = [canonical(level.name) for level in spec.levels]
    if not names and spec.compose is None:
        yield f"codec {spec.name!r} has no levels"
    if len(set(names)) < len(names):
        yield f"codec {spec.name!r} has two levels of one name: {', '.join(names)}"


def _clash(kind: str, name: str, new: Registered[PluginSpec], owner: Registered[PluginSpec]) -> str:
    if new.plugin == owner.plugin:
        return f"registers two {kind}s that answer to {name!r}"
    return (
        f"{kind} {new.spec.name!r} of {new.plugin.distribution} and {kind}"
        f" {owner.spec.name!r} of {owner.plugin.distribution} both answer to {name!r}:"
        f" {either_disabled(new.plugin, owner.plugin)}"
    )


def either_disabled(new: PluginInfo, owner: PluginInfo) -> str:
    """Return how a user chooses between two plugins that cannot both be loaded."""
    if new.distribution == owner.distribution:
        names = {new: new.name, owner: owner.name}
    else:
        names = {new: new.distribution, owner: owner.distribution}
    if owner.distribution == CORE:
        return (
            f"uninstall {new.distribution}, or disable it with {DISABLE_VARIABLE}={names[new]}"
            f" or plugins.disable: [{names[new]}]"
        )
    return (
        f"keep one of the two. {DISABLE_VARIABLE}={names[new]} keeps {names[owner]},"
        f" {DISABLE_VARIABLE}={names[owner]} keeps {names[new]}; so does plugins.disable in a"
        " configuration, or uninstalling"
    )
