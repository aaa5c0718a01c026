"""``lossylens doctor``: what works on this machine, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossylens.cli import FAILED
from lossylens.cli.commands import plugin_commands
from lossylens.cli.plugins_command import Json, plugin_details, print_troubles, report_selection
from lossylens.cli.terminal_tables import print_table
from lossylens.registry.plugins import Registry, load_registry

if TYPE_CHECKING:
    from lossylens.registry.checkup import Finding


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
    from lossylens.registry.checkup import check_fidelities, check_machine, check_plugins

    registry = load_registry(strict=False)
    plugin_commands(registry)
    machine = check_machine()
    findings = [*check_plugins(registry), *check_fidelities()]
    if as_json:
        print(json.dumps(_report(registry, machine, findings), indent=2))
    else:
        _print_report(registry, machine, findings, verbose)
    report_selection(registry)
    if registry.broken or any(each.status == "broken" for each in findings):
        raise typer.Exit(FAILED)


def _report(
    registry: Registry, machine: Mapping[str, str], findings: Sequence[Finding]
) -> dict[str, Any]:
    return {
        "machine": machine,
        "checks": [each.as_dict() for each in findings],
        "plugins": [plugin_details(each) for each in registry.plugins],
        "selection_problems": list(registry.selection_problems),
    }


def _what_to_do(finding: Finding) -> str:
    """Return what is missing, but for files, which have a table of their own."""
    if not finding.missing:
        return finding.detail
    files = [each.source for each in finding.missing if each.source]
    rest = [f"{each.what}: {each.remedy}" for each in finding.missing if not each.source]
    if any(each.fetchable for each in files):
        rest.append(f"lossylens fetch {finding.name}")
    elif files:
        rest.append("files that are got by hand: see below")
    return "; ".join(rest)


def _files(finding: Finding) -> Iterator[tuple[str, ...]]:
    for each in finding.missing:
        if source := each.source:
            where = each.remedy if not source.fetchable else source.address
            size = f"{source.gigabytes:.3g} GB" if source.gigabytes else "not known"
            yield finding.name, each.what, where, size, source.licence or "not known"


def _print_report(
    registry: Registry, machine: Mapping[str, str], findings: Sequence[Finding], verbose: bool
) -> None:
    for key, value in machine.items():
        print(f"{key + ':':14} {value}")
    print()
    rows = [(each.kind, each.name, each.status, _what_to_do(each)) for each in findings]
    print_table(("kind", "name", "status", "what to do"), rows)
    files = [row for each in findings for row in _files(each)]
    if files:
        print("\nMissing files: `lossylens fetch NAME` gets those that a program can get.")
        print_table(("for", "file", "from", "size", "licence"), files)
    print_troubles(registry, verbose=verbose)
    if registry.broken and not verbose:
        print("\nTracebacks: lossylens doctor --verbose")
