"""Registers the scenes task and its commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec

from lossylens_task_scenes.options import ScenesOptions

if TYPE_CHECKING:
    import typer


@hookimpl
def register_tasks(register: Callable[[TaskSpec], None]) -> None:
    """Register ``scenes``."""
    register(
        TaskSpec(
            name="scenes",
            summary="procedural scenes with known truth; nothing to download",
            factory="lossylens_task_scenes.task:ScenesTask",
            category="embedded",
            licence="Apache-2.0 (backgrounds: public domain, CC0 and CC BY 2.0)",
            options=ScenesOptions,
            primary=Primary(name="accuracy", low=0.0, high=100.0),
        )
    )


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add ``lossylens scenes``."""
    from lossylens_task_scenes.cli import scenes_app

    app.add_typer(scenes_app, name="scenes")
