"""``lossylens doctor``: what works on this machine, and what is missing."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from lossylens.cli import FAILED
from lossylens.cli.commands import plugin_commands
from lossylens.cli.plugins import Json, plugin_details, report_selection
from lossylens.cli.tables import print_table
from lossylens.plugins import load_registry


def doctor(
    as_json: Json = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of what is broken.")
    ] = False,
) -> None:
    """Check this machine and the requirements of all plugins.

    Exits with 1 if a plugin is broken; that something a plugin needs is missing
    is listed, but is no failure.
    """
    from lossylens.checkup import check_machine, check_plugins

    registry = load_registry(strict=False)
    plugin_commands(registry)
    machine = check_machine()
    findings = check_plugins(registry)
    broken = bool(registry.broken) or any(each.status == "broken" for each in findings)
    if as_json:
        report: dict[str, Any] = {
            "machine": machine,
            "checks": [each.as_dict() for each in findings],
            "plugins": [plugin_details(each) for each in registry.plugins],
            "selection_problems": list(registry.selection_problems),
        }
        print(json.dumps(report, indent=2))
    else:
        for key, value in machine.items():
            print(f"{key + ':':14} {value}")
        print()
        rows = [(each.kind, each.name, each.status, each.detail) for each in findings]
        print_table(("kind", "name", "status", "what to do"), rows)
        for plugin in registry.plugins:
            if plugin.disabled:
                print(f"\nDisabled by {plugin.disabled_by}: {plugin.label}")
        for plugin in registry.broken:
            print(f"\nBroken: {plugin.label}: {plugin.error}")
            if verbose:
                print(plugin.traceback)
        if registry.broken and not verbose:
            print("\nTracebacks: lossylens doctor --verbose")
    report_selection(registry)
    if broken:
        raise typer.Exit(FAILED)
