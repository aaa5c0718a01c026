"""``lossylens advise``: what to upload."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from lossylens.cli.terminal_tables import print_table, print_text
from lossylens.errors import ConfigError

if TYPE_CHECKING:
    from lossylens_report.table import Table

_UNITS = {"": 1, "b": 1, "k": 1_000, "kb": 1_000, "m": 1_000_000, "mb": 1_000_000}


def advise(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run folders, and names of published results, as for `report`."
        ),
    ],
    keep: Annotated[
        str | None,
        typer.Option(
            help="Share of the accuracy on uncompressed images that is to be kept, such as 95% or"
            " 0.95. Default, where there is no --budget: 99%."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Bytes that an image may take in the mean, such as 30000 or 30kB (1000 bytes):"
            " the best codec and level within them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what to upload: the cheapest codec and level that keeps the accuracy, or fits a budget.

    For each model and task, with 95 % intervals over draws of images that are the same with
    compression and without. With --keep, a model with several tasks gets a line for all of them
    together.
    """
    from lossylens_report.advice import (
        KEPT_SHARES,
        advise_budget,
        advise_keeping,
        as_json_values,
        budget_table,
        keeping_table,
    )
    from lossylens_report.comparing import compare
    from lossylens_report.findings import progress
    from lossylens_report.sources import find_sources

    size = None if budget is None else _bytes(budget)
    share = None if keep is None else _share(keep)
    if share is None and size is None:
        share = KEPT_SHARES[0]
    found, _ = find_sources(sources)
    comparison = compare(found)
    groups, untold = comparison.groups, progress(comparison.sources)
    keeping = [] if share is None else advise_keeping(groups, share)
    within = [] if size is None else advise_budget(groups, size)
    if as_json:
        print(
            json.dumps(
                {
                    "keep": share,
                    "keeping": as_json_values(keeping),
                    "budget": size,
                    "within": as_json_values(within),
                    "unfinished": untold,
                },
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    for text in untold:
        print(text, file=sys.stderr)
    if not groups:
        print_text("Nothing is scored yet, so there is no advice.")
    if keeping and share is not None:
        _print(keeping_table(keeping, share))
    if within and size is not None:
        print("\n" if keeping else "", end="")
        _print(budget_table(within, size))


def _print(table: Table) -> None:
    from lossylens_report.table import shown

    print_text(f"{table.title}. {table.note}".strip())
    print_table(table.columns, shown(table))


def _share(text: str) -> float:
    """Return what ``95%`` or ``0.95`` means.

    Raises:
        ConfigError: it is neither, or not more than 0 and at most 1.
    """
    match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(%?)\s*", text, re.ASCII)
    value = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < value <= 1:
        raise ConfigError(f"--keep {text}: expected a share, such as 95% or 0.95")
    return value


def _bytes(text: str) -> float:
    """Return what ``30000``, ``30kB`` or ``1.5MB`` means.

    Raises:
        ConfigError: it is none, or 0.
    """
    match = re.fullmatch(r"\s*(\d*\.?\d+)\s*([a-z]*)\s*", text.lower(), re.ASCII)
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise ConfigError(f"--budget {text}: expected bytes, such as 30000, 30kB or 1.5MB")
    return float(match[1]) * _UNITS[match[2]]
