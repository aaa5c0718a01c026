"""What the machines that do the work of a run must have, and have alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib import metadata
from typing import Any

from lossylens.executor import Need, Resources
from lossylens.grid.config import Choice, Config
from lossylens.grid.manifest import plugin_versions
from lossylens.grid.plan import Plan
from lossylens.registry.plugins import load_registry

#: What plugins stand on.
_COMMON = ("lossylens", "lossylens-toolkit")


def needs(config: Config, plan: Plan) -> Iterator[Need]:
    """Yield what each codec and each VLM of a run needs; adaptors belong to their VLM."""
    distributions = tuple(versions(config))

    def need(choice: Choice[Any], gpus: float, arguments: Iterable[tuple[Any, ...]]) -> Need:
        look = partial(_looked, distributions, choice.spec.kind, tuple(arguments))
        return Need(choice.where, Resources(gpus=gpus), look)

    for levels in plan.curves:
        codec = levels[0].choice
        gpus = 1 if any(each.wants_device for each in levels) else 0
        arguments = [(codec.spec.name, each.level, codec.options) for each in levels]
        yield need(codec, gpus, arguments)
    for models in plan.families:
        vlm = models[0].choice
        gpus = vlm.spec.gpus(vlm.options)
        yield need(vlm, gpus, [(vlm.spec.name, vlm.options)])
        for model in models:
            if model.adaptor is not None:
                adaptor = model.adaptor.choice
                yield need(adaptor, gpus, [(adaptor.spec.name, adaptor.options)])


def versions(config: Config) -> Mapping[str, str]:
    """Return the versions of all distributions that a run is made of, by name."""
    found = dict(plugin_versions(config))
    for name in _COMMON:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return dict(sorted(found.items()))


def _looked(
    distributions: tuple[str, ...], kind: str, built: tuple[tuple[Any, ...], ...]
) -> list[dict[str, Any]]:
    """Return what plugins of a kind say of their provenance where this is called.

    Raises:
        LossylensError: one cannot be built there.
    """
    registry = load_registry(only=[each for each in distributions if each not in _COMMON])
    build = getattr(registry, f"build_{kind}")
    return [dict(build(*arguments).provenance()) for arguments in built]
