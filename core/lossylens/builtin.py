"""The core's own plugin: what it provides goes through the same hooks as all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lossylens.codec import CodecSpec, Level
from lossylens.executor import ExecutorSpec
from lossylens.hookspecs import hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register the reference point of every comparison."""
    register(
        CodecSpec(
            name="uncompressed",
            summary="no compression: raw RGB, 24 bpp by definition",
            factory="lossylens.uncompressed:Uncompressed",
            aliases=("raw", "original"),
            category="reference",
            licence="Apache-2.0",
            levels=(Level("raw"),),
            lossless=True,
            nominal_bpp=24.0,
        )
    )


@hookimpl
def register_executors(register: Callable[[ExecutorSpec], None]) -> None:
    """Register the executor that every machine has."""
    register(
        ExecutorSpec(
            name="local",
            summary="processes on this machine",
            factory="lossylens.run.executors.local:LocalExecutor",
            licence="Apache-2.0",
        )
    )


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Register the commands that need no other distribution."""
    from lossylens.cli.ask_command import ask
    from lossylens.cli.config_command import config
    from lossylens.cli.decode_command import decode
    from lossylens.cli.doctor_command import doctor
    from lossylens.cli.encode_command import encode
    from lossylens.cli.init_command import init
    from lossylens.cli.merge_command import merge
    from lossylens.cli.new_command import app as new
    from lossylens.cli.overriding import TakesOverrides
    from lossylens.cli.plugins_command import app as plugins
    from lossylens.cli.run_command import run
    from lossylens.cli.score_command import score
    from lossylens.cli.status_command import status

    app.command("run", cls=TakesOverrides)(run)
    for command in (init, status, config, doctor, encode, decode, ask, score, merge):
        app.command(command.__name__)(command)
    app.add_typer(plugins, name="plugins")
    app.add_typer(new, name="new")
