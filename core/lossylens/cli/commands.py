"""The commands of the command line: those of the core and those of plugins.

To add a command, write a module with a function (or a ``typer.Typer``, for one
with subcommands) and add its line to :data:`COMMANDS`.  Listing the commands
imports all these modules, so what is slow to import is imported inside the
function.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from functools import cached_property
from typing import Annotated, Any, cast

import pluggy
import typer
from typer.core import TyperGroup

from lossylens import __version__
from lossylens.cli import CLOSED_PIPE, stdout_is_closed
from lossylens.errors import PluginError
from lossylens.failure import place
from lossylens.loading import PluginInfo, either_disabled, import_object
from lossylens.plugins import Registry, load_registry

#: Name of each command and where it is, in the order in which they are listed.
COMMANDS: dict[str, str] = {
    "run": "lossylens.cli.run:app",
    "config": "lossylens.cli.config:config",
    "report": "lossylens.cli.report:report",
    "plugins": "lossylens.cli.plugins:app",
    "doctor": "lossylens.cli.doctor:doctor",
    "analyze": "lossylens.cli.analyze:app",
    "encode": "lossylens.cli.encode:encode",
    "decode": "lossylens.cli.decode:decode",
    "ask": "lossylens.cli.ask:ask",
    "score": "lossylens.cli.score:score",
    "bd": "lossylens.cli.bd:bd",
    "train": "lossylens.cli.train:app",
    "gap": "lossylens.cli.gap:app",
    "new": "lossylens.cli.new:app",
}

# typer imports pydantic to convert the absent value of --help, which takes as
# long as all else that listing plugins does; a value that is a bool spares it.
_NO_HELP = {"help": False, "plugins": {"help": False}}


def build() -> TyperGroup:
    """Return the command line, with no command loaded yet."""
    app = typer.Typer(
        cls=_Group,
        no_args_is_help=True,
        add_completion=False,
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
    """The commands by name, each imported when it is asked for.

    Plugins are loaded only for a name that is not the core's, or for the list of
    all commands.
    """

    def __getitem__(self, name: str) -> Any:
        if name in COMMANDS:
            return _load(name)
        return self._of_plugins[name]

    def __iter__(self) -> Iterator[str]:
        yield from COMMANDS
        yield from self._of_plugins

    def __len__(self) -> int:
        return len(COMMANDS) + len(self._of_plugins)

    def __setitem__(self, name: str, command: Any) -> None:
        self._of_plugins[name] = command

    def __delitem__(self, name: str) -> None:
        del self._of_plugins[name]

    @cached_property
    def _of_plugins(self) -> dict[str, Any]:
        registry = load_registry(strict=False)
        broken = set(registry.broken)
        commands = plugin_commands(registry)
        for plugin in set(registry.broken) - broken:
            what = f"the commands of plugin {plugin.name!r} ({plugin.distribution}) are left out"
            print(f"lossylens: {what}: {plugin.error}", file=sys.stderr)
        return commands


def _load(name: str) -> Any:
    """Import a command of the core."""
    target = import_object(COMMANDS[name])
    if not isinstance(target, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(name)(target)
        target = app
    command = typer.main.get_command(target)
    command.name = name
    return command


def plugin_commands(registry: Registry) -> dict[str, Any]:
    """Return the commands that plugins add, by name.

    A plugin whose commands fail to register, or clash, is marked as broken in
    *registry* and adds none.
    """
    commands: dict[str, Any] = {}
    owners: dict[str, PluginInfo] = {}

    def collect(plugin: PluginInfo, hooks: pluggy.HookRelay) -> None:
        app = typer.Typer(add_completion=False)
        hooks.register_commands(app=app)
        added = typer.main.get_group(app).commands
        for name in added:
            if name in COMMANDS:
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
