"""The toolkit as a plugin: its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossylens.hookspecs import hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Register ``analyze``, ``fetch`` and ``train``."""
    from lossylens_toolkit.fetch_command import fetch
    from lossylens_toolkit.layer_analysis.analyze_command import app as analyze
    from lossylens_toolkit.training.train_command import app as train

    app.add_typer(analyze, name="analyze")
    app.command()(fetch)
    app.add_typer(train, name="train")
