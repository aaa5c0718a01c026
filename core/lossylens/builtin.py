"""The core's own plugin: what it provides goes through the same hooks as all else."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.codec import CodecSpec, Level
from lossylens.executor import ExecutorSpec
from lossylens.hookspecs import hookimpl


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
            factory="lossylens.executors.local:LocalExecutor",
            licence="Apache-2.0",
        )
    )
