"""What the words of ``lossylens report`` mean: run folders and published results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossylens.errors import ConfigError, PluginError
from lossylens.names import suggestion
from lossylens.registry.plugins import Registry, load_registry

from lossylens_report.comparing import Source
from lossylens_report.reading import RunReading, read_run
from lossylens_report.run_results import SourceResults


def find_sources(names: Sequence[str | Path]) -> tuple[list[Source], list[RunReading]]:
    """Return all sources in order, and among them the runs.

    A folder that exists is a run; any other word is the name of published results.

    Raises:
        StoreError: a run folder cannot be read.
        ConfigError: a word is neither.
    """
    registry: Registry | None = None
    sources, runs = [], []
    for name in names:
        if Path(name).is_dir():
            run = read_run(Path(name))
            runs.append(run)
            sources.append(Source(run.results, run.replicates))
            continue
        registry = registry or load_registry(strict=False)
        sources.append(Source(_published(registry, str(name))))
    return sources, runs


def _published(registry: Registry, name: str) -> SourceResults:
    try:
        registry.find("result", name)
    except PluginError as error:
        known = [each.spec.name for each in registry.all("result")]
        raise ConfigError(
            f"{name!r} is neither a run folder nor published results. {suggestion(name, known)}"
        ) from error
    return SourceResults.of(registry.build_result(name).load())
