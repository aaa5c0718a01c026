"""``lossylens gap``: what of the gap adaptation wins back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from lossylens.cli import FAILED, INTERRUPTED
from lossylens.cli.terminal_tables import print_table, print_text
from lossylens.errors import RequirementError

if TYPE_CHECKING:
    from lossylens.options.optiondocs import OptionDoc


def gap_keys() -> Iterator[OptionDoc]:
    """Yield the keys of its configuration."""
    from lossylens.options.optiondocs import option_docs
    from lossylens_toolkit.training.gap_options import GapSections

    return option_docs(GapSections)


def gap(
    config: Annotated[Path, typer.Argument(help="Configuration, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as training.steps=1000."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained; train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Split what compression costs into what is lost and what adaptation wins back.

    Trains an adaptor for each codec and level, for all together and, as a control, for
    none; runs all of them beside the VLM as it is; and prints the split with intervals.
    Started again with the same folder, it takes up where it was stopped.
    """
    here = Path.cwd()
    try:
        from lossylens_toolkit.training.gap_training import find_gap
    except ModuleNotFoundError as error:
        raise RequirementError(
            f"training needs {error.name}: pip install 'lossylens-toolkit[training]'"
        ) from error
    try:
        folder, failed = find_gap(config, overrides or (), _say, dry=dry_run)
    except KeyboardInterrupt:
        _say("What was finished is kept; the same command goes on with it.")
        raise typer.Exit(INTERRUPTED) from None
    if not dry_run:
        # A plugin may have gone elsewhere; the report reads relative paths of options again.
        os.chdir(here)
        _show(folder, as_json)
    if failed:
        _say(f"{failed} samples failed; why is in the report.")
        raise typer.Exit(FAILED)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _show(folder: Path, as_json: bool) -> None:
    """Print the split, and write it with the report of the run."""
    from lossylens_report import write_report, write_split
    from lossylens_report.table import as_object, shown

    tables, left_out = write_split(folder, folder.parent)
    if as_json:
        objects = [as_object(table) for table in tables]
        report = str(write_report(folder))
        content = {"report": report, "tables": objects, "left_out": list(left_out)}
        print(json.dumps(content, indent=2))
        return
    for table in tables:
        print_text(f"{table.title}. {table.note}")
        print_table(table.columns, shown(table))
        print()
    for reason in left_out:
        print(f"Left out of the split: {reason}.")
    print(f"Report: {write_report(folder)}")
