"""The report as a plugin: written at the end of runs, and its commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lossylens.hookspecs import hookimpl
from lossylens.report import ReportSpec

if TYPE_CHECKING:
    import typer


@hookimpl
def register_reports(register: Callable[[ReportSpec], None]) -> None:
    """Register the HTML page."""
    register(
        ReportSpec(
            name="html",
            summary="curves, measures, tables and samples in one HTML file",
            factory="lossylens_report.page_report:PageReport",
            licence="Apache-2.0",
        )
    )


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Register ``report``, ``advise``, ``bd`` and ``gap``."""
    from lossylens.cli.overriding import with_keys

    from lossylens_report.advise_command import advise
    from lossylens_report.bd_command import bd
    from lossylens_report.gap_command import gap, gap_keys
    from lossylens_report.report_command import report

    app.command("report")(report)
    app.command("advise")(advise)
    app.command("bd")(bd)
    app.command("gap", cls=with_keys(gap_keys))(gap)
