"""``lossylens report``: report of runs and published results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from lossylens.cli.terminal_tables import print_table
from lossylens.errors import ConfigError


def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, as `lossylens run` made them, and names of published results,"
            " such as published.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report. Default: report/ in the run folder, or here where there"
            " are several sources."
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="html (the default), csv, markdown, latex (tables), svg, pdf (figures), or all;"
            " can be repeated.",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Print how the figures that were published in print compare with those recomputed"
            " from the published scores. Writes a report only where --format asks for one.",
        ),
    ] = False,
    fidelity: Annotated[
        Path | None,
        typer.Option(
            help="CSV table with codec, level, optionally task, and fidelity metrics (PSNR ...)"
            " to be correlated with the scores."
        ),
    ] = None,
    pictures: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Images of each task whose pictures are made for the sample browser, however long"
            " that takes. Default: 24, as far as 64 MB and 30 seconds go.",
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Write the page anew whenever a run has gone on, without pictures of samples,"
            " until all runs have ended; the page reloads itself. Ctrl+C ends it as well.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a report: curves, measures, tables and samples in one HTML file.

    Of a run that is not finished, the cells that are scored are shown, and the others named.

    Several sources are laid side by side where their data and questions agree, and
    shown apart, with the reason, where they do not.
    """
    from lossylens_report import FORMATS, PAGE, write_report

    chosen = formats or ([] if compare else [PAGE])
    if "all" in chosen:
        chosen = list(FORMATS)
    path = None

    def write(pictures: int | None, reload: int, say: Callable[[str], None]) -> None:
        nonlocal path
        path = write_report(
            *sources,
            out=out,
            formats=chosen,
            fidelity=fidelity,
            pictures=pictures,
            reload=reload,
            say=say,
        )
        if not as_json:
            typer.echo(path)

    if watch:
        from lossylens_report.watching import watch_runs

        if PAGE not in chosen:
            raise ConfigError("--watch: writes the page, so that --format must have html")

        def write_watched(reload: int) -> None:
            # What is left out is said once the run has ended.
            write(0 if reload else pictures, reload, _silent if reload else _say)

        watch_runs(sources, write_watched, _say)
    elif chosen:
        write(pictures, 0, _say)
    if as_json:
        typer.echo(json.dumps(_as_object(path, sources if compare else []), indent=2))
    elif compare:
        _print_comparison(sources)


def _silent(line: str) -> None:
    """Say nothing."""


def _say(line: str) -> None:
    # Not on standard output, which has the path alone.
    typer.echo(line, err=True)


def _as_object(path: Path | None, compared: list[str]) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    from lossylens_report import compare_with_printed
    from lossylens_report.table import as_object

    tables = compare_with_printed(*compared) if compared else ()
    return {
        "report": None if path is None else str(path),
        "tables": [as_object(table) for pair in tables for table in pair],
    }


def _print_comparison(sources: list[str]) -> None:
    from lossylens_report import compare_with_printed
    from lossylens_report.table import shown

    for pair in compare_with_printed(*sources):
        for table in pair:
            typer.echo(f"\n{table.title}. {table.note}".rstrip())
            print_table(table.columns, shown(table))
