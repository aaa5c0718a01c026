"""``lossylens report``: the HTML report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Run folder, as `lossylens run` made it.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: report/ in the run folder.")
    ] = None,
) -> None:
    """Write the report of a run: curves, tables and manifest in one HTML file."""
    from lossylens.report import write_report

    typer.echo(write_report(run, out))
