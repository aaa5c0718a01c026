"""``lossylens fetch``: gets the files that a plugin lacks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from lossylens.cli import FAILED
from lossylens.cli.completing import names_of
from lossylens.cli.single_files import parse_options
from lossylens.errors import ConfigError, LossylensError
from lossylens.names import canonical, suggestion

if TYPE_CHECKING:
    from lossylens.registry.checkup import Finding
    from lossylens.registry.plugins import Registry
    from lossylens.spec import Missing


def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="A codec, VLM, task, adaptor or fidelity metric.",
            autocompletion=names_of("codec", "vlm", "adaptor"),
        ),
    ],
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the plugin; can be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be got; get nothing.")
    ] = False,
) -> None:
    """Get the files that a plugin lacks, from where their authors have put them.

    A download that broke off is gone on with. What only a person can get is said instead,
    and the command ends with 1.
    """
    from lossylens.registry.plugins import load_registry

    findings = list(_findings(load_registry(strict=False), name, parse_options(option)))
    for each in findings:
        if each.status in ("broken", "needs options"):
            raise ConfigError(each.detail)
    missing = [each for finding in findings for each in finding.missing]
    if not missing:
        typer.echo(f"{canonical(name)} has all its files.")
    by_hand = [each for each in missing if not _got(each, dry_run)]
    if by_hand:
        raise typer.Exit(FAILED)


def _got(missing: Missing, dry_run: bool) -> bool:
    """Get one thing; say what was done, or is to be done by hand."""
    source = missing.source
    if source is None or not source.fetchable:
        typer.echo(f"By hand: {missing.what}: {missing.remedy}")
        return False
    size = f"{source.gigabytes:.3g} GB" if source.gigabytes else "of a size that is not known"
    into = f" to {source.target}" if source.target else ""
    typer.echo(f"{source.address}{into}: {size}, licence: {source.licence or 'not known'}")
    if dry_run:
        return True
    from lossylens_toolkit.fetching import fetch_source

    try:
        path = fetch_source(source)
    except LossylensError as error:
        print(f"lossylens: {error}", file=sys.stderr)
        return False
    typer.echo(f"Got: {path}")
    return True


def _findings(registry: Registry, name: str, options: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is found about all that is called *name*.

    Raises:
        ConfigError: nothing is.
    """
    from lossylens.registry.checkup import check_fidelities, check_plugin
    from lossylens.registry.plugins import KINDS

    found = [
        each
        for kind in KINDS
        for each in registry.all(kind)
        if canonical(name) in map(canonical, (each.spec.name, *each.spec.aliases))
    ]
    yield from (check_plugin(registry, each, options) for each in found)
    metrics = [each for each in check_fidelities() if each.name == canonical(name)]
    yield from metrics
    if not found and not metrics:
        known = [each.spec.name for kind in KINDS for each in registry.all(kind)]
        known += [each.name for each in check_fidelities()]
        raise ConfigError(f"nothing installed is called {name!r}. {suggestion(name, known)}")
