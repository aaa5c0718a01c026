"""Registers the published results; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.hookspecs import hookimpl
from lossylens.result import ResultSpec


@hookimpl
def register_results(register: Callable[[ResultSpec], None]) -> None:
    """Register the results."""
    register(
        ResultSpec(
            name="published",
            summary="published scores: 9 VLMs, 11 codecs, 4 levels, 6 tasks",
            factory="lossylens_result_published.results:Published",
            category="benchmark",
            citation="score files at github.com/bblgbr/CompressVLMBench and the paper's tables",
            licence="Apache-2.0",
        )
    )
