"""``lossylens plugins``: what is installed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from lossylens.cli import USAGE
from lossylens.cli.commands import plugin_commands
from lossylens.cli.completing import names_of
from lossylens.cli.terminal_tables import print_entry, print_table
from lossylens.errors import PluginError
from lossylens.names import suggestion
from lossylens.options.optiondocs import option_docs
from lossylens.registry.import_paths import factory_problem
from lossylens.registry.plugins import KINDS, PluginInfo, Registered, Registry, load_registry

app = typer.Typer(invoke_without_command=True, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def plugins(context: typer.Context, as_json: Json = False) -> None:
    """List what the installed plugins provide, and which of them are broken."""
    if context.invoked_subcommand:
        return
    registry = load_registry(strict=False)
    commands = list(plugin_commands(registry))
    if as_json:
        print(json.dumps(_listing(registry, commands), indent=2))
    else:
        _print_listing(registry, commands)
    report_selection(registry)


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A codec, VLM, task, adaptor or plugin.", autocompletion=names_of(*KINDS)
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say all that is known about one codec, VLM, task, adaptor or plugin."""
    registry = load_registry(strict=False)
    found = registry.find_all(name)
    origins = [plugin for plugin in registry.plugins if plugin.answers_to(name)]
    if not found and not origins:
        raise PluginError(_unknown(registry, name))
    if as_json:
        details = [spec_details(each) for each in found]
        shown = {"plugins": [plugin_details(each) for each in origins], "provides": details}
        print(json.dumps(shown, indent=2))
    else:
        shows: list[Callable[[], None]] = [partial(_print_found, each) for each in found]
        shows += [partial(_print_details, each) for each in _details(origins, found)]
        for number, show_one in enumerate(shows):
            print("\n" if number else "", end="")
            show_one()
    report_selection(registry)


def report_selection(registry: Registry) -> None:
    """Fail where an allow or deny list names an unknown plugin.

    Raises:
        typer.Exit: it does.
    """
    for problem in registry.selection_problems:
        print(f"lossylens: {problem}", file=sys.stderr)
    if registry.selection_problems:
        raise typer.Exit(USAGE)


def plugin_details(plugin: PluginInfo) -> dict[str, Any]:
    """Return what is known of a plugin, for JSON."""
    return {**dataclasses.asdict(plugin), "status": plugin.status}


def _listing(registry: Registry, commands: list[str]) -> dict[str, Any]:
    listing: dict[str, Any] = {
        f"{kind}s": [_brief(each) for each in registry.all(kind)] for kind in KINDS
    }
    listing["commands"] = commands
    listing["plugins"] = [plugin_details(plugin) for plugin in registry.plugins]
    listing["selection_problems"] = list(registry.selection_problems)
    return listing


def _brief(found: Registered[Any]) -> dict[str, Any]:
    spec = found.spec
    problem = factory_problem(spec)
    brief: dict[str, Any] = {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "summary": spec.summary,
        "category": spec.category,
        "plugin": found.plugin.name,
        "distribution": found.plugin.distribution,
        "version": found.plugin.version,
    }
    if problem:
        brief["error"] = problem
    if spec.kind == "codec":
        brief["levels"] = [level.name for level in spec.levels]
    return brief


def _print_listing(registry: Registry, commands: list[str]) -> None:
    rows = [
        (kind, each.spec.name, status, each.spec.category, each.spec.summary, _origin(each.plugin))
        for kind in KINDS
        for each in registry.all(kind)
        for status in ("broken" if factory_problem(each.spec) else "loaded",)
    ]
    print_table(("kind", "name", "status", "category", "summary", "from"), rows)
    if commands:
        print(f"\nCommands of plugins: {', '.join(commands)}")
    print_troubles(registry)


def print_troubles(registry: Registry, *, verbose: bool = False) -> None:
    """Print which plugins are disabled or broken, and why."""
    for plugin in registry.plugins:
        if plugin.disabled:
            print(f"\nDisabled by {plugin.disabled_by}: {plugin.label}")
    for plugin in registry.broken:
        print(f"\nBroken: {plugin.label}: {plugin.error}")
        if verbose:
            print(plugin.traceback)
    for kind in KINDS:
        for each in registry.all(kind):
            if problem := factory_problem(each.spec):
                print(f"\nBroken: {kind} {each.spec.name!r} of {each.plugin.label}: {problem}")


def _origin(plugin: PluginInfo) -> str:
    return f"{plugin.distribution} {plugin.version}"


def spec_details(found: Registered[Any]) -> dict[str, Any]:
    """Return what is known of a codec, VLM, task or adaptor, for JSON."""
    spec = found.spec
    details = {"kind": spec.kind, **_brief(found)}
    details |= {"citation": spec.citation, "licence": spec.licence, "factory": spec.factory}
    if spec.kind == "codec":
        details["other_levels"] = spec.level_help
        details["level_sets"] = {name: list(levels) for name, levels in spec.level_sets.items()}
    details["options"] = list(_options(spec.options))
    if spec.kind == "adaptor":
        details["trained"] = bool(spec.trainer)
        details["training"] = list(_options(spec.training))
    return details


def _options(options: type) -> Iterator[dict[str, Any]]:
    for each in option_docs(options):
        yield {
            "name": each.name,
            "type": each.type,
            "required": each.required,
            "default": each.default,
            "text": each.text,
        }


def _details(plugins: list[PluginInfo], found: Sequence[object]) -> Iterator[dict[str, Any]]:
    """Yield what is said of plugins: of those in trouble, or of all where nothing else is shown."""
    for plugin in plugins:
        if plugin.status != "loaded" or not found:
            yield plugin_details(plugin)


def _print_found(found: Registered[Any]) -> None:
    details = spec_details(found)
    del details["options"]
    details.pop("training", None)
    _print_details(details)
    _print_options("option", found.spec.options)
    if found.spec.kind == "adaptor":
        _print_options("option of its training", found.spec.training)


def _print_options(title: str, options: type) -> None:
    rows = [(each.name, each.type, each.shown, each.text) for each in option_docs(options)]
    if rows:
        print()
        print_table((title, "type", "default", "meaning"), rows)


def _print_details(details: dict[str, Any]) -> None:
    for key, value in details.items():
        text = _text(value)
        if text and key == "traceback":
            print(f"{key}:\n{text}")
        elif text:
            print_entry(key.replace("_", " "), text)


def _text(value: Any) -> str:
    """Return one of a plugin's details in words."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _unknown(registry: Registry, name: str) -> str:
    known = [each.spec.name for kind in KINDS for each in registry.all(kind)]
    known += [plugin.name for plugin in registry.plugins]
    return f"nothing installed is called {name!r}. {suggestion(name, dict.fromkeys(known))}"
