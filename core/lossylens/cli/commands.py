"""The commands of the command line: those of the core and those of plugins.

All are registered through the hook ``register_commands``; the core's own are those of
:mod:`lossylens.builtin`, and are looked at first, so that they are there without any plugin
being loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from functools import cached_property
from typing import Annotated, Any, cast

import pluggy
import typer
from typer.core import TyperGroup

from lossylens import __version__, builtin
from lossylens.cli import CLOSED_PIPE, stdout_is_closed
from lossylens.errors import ConfigError, PluginError
from lossylens.failure import place
from lossylens.registry.discovery import CORE
from lossylens.registry.plugin_info import PluginInfo
from lossylens.registry.plugins import Registry, load_registry
from lossylens.registry.registration import either_disabled

# Commands that are missed where their distribution is not there, with its folder.
_ELSEWHERE = {
    **dict.fromkeys(
        ("report", "bd", "gap", "advise"), ("lossylens-report", "plugins/reports/html")
    ),
    **dict.fromkeys(("train", "analyze", "fetch"), ("lossylens-toolkit", "toolkit")),
}

# typer imports pydantic to convert the absent value of such an option, which takes as
# long as all else that listing plugins does; a value that is a bool spares it.
_NO_HELP = {
    "help": False,
    "plugins": {"help": False},
    "install_completion": False,
    "show_completion": False,
}


def build() -> TyperGroup:
    """Return the command line, with no command loaded yet."""
    app = typer.Typer(
        cls=_Group,
        no_args_is_help=True,
        context_settings={"default_map": _NO_HELP},
    )
    app.callback()(_root)
    group = cast(TyperGroup, typer.main.get_command(app))
    group.commands = LazyCommands()
    return group


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lossylens {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """What image compression costs vision-language models, and how much can be won back."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run a command; typer would hide a broken pipe to any other process too.

        Commands end by returning or raising, so a ``sys.exit()`` is a plugin's: its code
        must not pass for ours.
        """
        try:
            return super().invoke(ctx)
        except SystemExit as stop:
            raise PluginError(
                f"a plugin ended the command with sys.exit({stop.code!r}) ({place(stop)})"
            ) from stop
        except BrokenPipeError as error:
            if stdout_is_closed():
                raise SystemExit(CLOSED_PIPE) from error
            raise RuntimeError("the pipe to another process broke") from error


class LazyCommands(MutableMapping[str, Any]):
    """The commands by name, each made when it is asked for.

    Plugins are loaded only for a name that is not the core's, or for the list of
    all commands.
    """

    def __getitem__(self, name: str) -> Any:
        if name in self._of_the_core:
            return self._of_the_core[name]
        if name in _ELSEWHERE and name not in self._of_plugins:
            distribution, folder = _ELSEWHERE[name]
            raise ConfigError(
                f"{name} is a command of {distribution}, which is not installed, or disabled:"
                f" pip install {distribution}, or ./{folder} in a clone of the repository"
            )
        return self._of_plugins[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._of_the_core
        yield from self._of_plugins

    def __len__(self) -> int:
        return len(self._of_the_core) + len(self._of_plugins)

    def __setitem__(self, name: str, command: Any) -> None:
        self._of_plugins[name] = command

    def __delitem__(self, name: str) -> None:
        del self._of_plugins[name]

    @cached_property
    def _of_the_core(self) -> dict[str, Any]:
        return core_commands()

    @cached_property
    def _of_plugins(self) -> dict[str, Any]:
        registry = load_registry(strict=False)
        broken = set(registry.broken)
        commands = plugin_commands(registry)
        for plugin in set(registry.broken) - broken:
            what = f"the commands of plugin {plugin.name!r} ({plugin.distribution}) are left out"
            print(f"lossylens: {what}: {plugin.error}", file=sys.stderr)
        return commands


def core_commands() -> dict[str, Any]:
    """Return the commands of the core, by name."""
    app = typer.Typer(add_completion=False)
    builtin.register_commands(app)
    return dict(typer.main.get_group(app).commands)


def plugin_commands(registry: Registry) -> dict[str, Any]:
    """Return the commands that plugins add, by name.

    A plugin whose commands fail to register, or clash, is marked as broken in
    *registry* and adds none.
    """
    commands: dict[str, Any] = {}
    owners: dict[str, PluginInfo] = {}
    core = core_commands()

    def collect(plugin: PluginInfo, hooks: pluggy.HookRelay) -> None:
        if plugin.distribution == CORE:
            return
        app = typer.Typer(add_completion=False)
        hooks.register_commands(app=app)
        added = typer.main.get_group(app).commands
        for name in added:
            if name in core:
                raise PluginError(f"command {name!r} of {plugin.distribution} is one of the core's")
            if name in owners:
                raise PluginError(_clash(name, plugin, owners[name]))
        commands.update(added)
        owners.update(dict.fromkeys(added, plugin))

    registry.call_hooks(collect)
    return commands


def _clash(name: str, plugin: PluginInfo, owner: PluginInfo) -> str:
    return (
        f"{plugin.distribution} and {owner.distribution} both add a command {name!r}:"
        f" {either_disabled(plugin, owner)}"
    )
