"""What a run was made with, as far as the keys of its parts do not say it."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from lossylens import __version__
from lossylens.grid.config import Choice, Config
from lossylens.grid.plan import Plan
from lossylens.registry.discovery import CORE
from lossylens.registry.fidelity import FIDELITIES
from lossylens.store.jsonable import plain
from lossylens.store.records import KEY_VERSION

#: Whose versions are recorded wherever they are installed.
_LIBRARIES = ("numpy", "omegaconf", "pillow", "pluggy", "pyyaml", "safetensors")
_MODEL_LIBRARIES = ("tokenizers", "torch", "torchvision", "transformers")


def make_manifest(config: Config, plan: Plan) -> dict[str, Any]:
    """Return versions, platform, seeds and settings of a run."""
    return {
        "lossylens": __version__,
        "key_version": KEY_VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "plugins": dict(sorted(plugin_versions(config))),
        "libraries": dict(_versions((*_LIBRARIES, *_MODEL_LIBRARIES))),
        "evaluator_parity": config.run.evaluator_parity,
        "limit": config.run.limit,
        "workers": config.run.workers,
        "parts": {part.key: {"kind": part.kind, **part.description} for part in plan.parts},
        "seeds": dict(_seeds(config)),
        "fidelity": {name: FIDELITIES[name].method for name in config.run.fidelity},
        "metrics": {
            each.choice.label: dataclasses.asdict(each.choice.spec.primary)
            for each in plan.benchmarks
        },
        "data": {
            each.choice.label: {
                name: config.environment.hidden(str(value))
                for name, value in plain(each.task.provenance()).items()
            }
            for each in plan.benchmarks
        },
        "unseen": [
            [model.choice.label, model.adaptor_label, codec.choice.label, codec.level.name]
            for model, codec in plan.unseen
        ],
        "arguments": plain(sys.argv[1:]),
    }


def plugin_versions(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the distributions of a run's plugins, the core aside, with their versions."""
    for choice in _choices(config):
        plugin = choice.found.plugin
        if plugin.distribution != CORE:
            yield plugin.distribution, plugin.version


def _choices(config: Config) -> Iterator[Choice[Any]]:
    yield from config.codecs
    yield from config.vlms
    yield from config.tasks
    yield from config.adaptors
    yield config.executor


def _versions(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _seeds(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield the options called ``seed``; a run itself draws no random numbers."""
    for choice in _choices(config):
        if hasattr(choice.options, "seed"):
            written = choice.environment.texts.get(("seed",))
            yield f"{choice.where}.seed", written or plain(choice.options.seed)
