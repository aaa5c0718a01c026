"""What this machine has, and what the installed plugins still need."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from lossylens import __version__
from lossylens.errors import ConfigError, LossylensError
from lossylens.registry.fidelity import FIDELITIES
from lossylens.registry.import_paths import factory_problem
from lossylens.registry.plugins import KINDS, Registered, Registry
from lossylens.spec import Missing

#: Libraries whose versions are reported; they are not imported.
LIBRARIES = ("numpy", "pillow", "omegaconf", "pluggy", "torch", "torchvision", "transformers")


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The state of one plugin with its default options, or of a fidelity metric.

    Attributes:
        kind: of plugin, or ``fidelity`` for a metric of the core.
        name: canonical name.
        status: ``"ready"``, ``"needs options"``, ``"missing"`` or ``"broken"``.
        detail: what is missing and how to get it.
        missing: the same, one by one, each file with where it comes from.
    """

    kind: str
    name: str
    status: str
    detail: str = ""
    missing: tuple[Missing, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return dataclasses.asdict(self)


def check_plugins(registry: Registry) -> list[Finding]:
    """Check the requirements of all that *registry* holds, without importing it."""
    return [check_plugin(registry, each) for kind in KINDS for each in registry.all(kind)]


def check_fidelities() -> list[Finding]:
    """Check what the metrics of ``run.fidelity`` need."""
    findings = []
    for each in FIDELITIES.values():
        findings.append(_finding("fidelity", each.name, each.missing()))
    return findings


def check_plugin(
    registry: Registry, found: Registered[Any], given: Mapping[str, Any] = MappingProxyType({})
) -> Finding:
    """Check the requirements of a plugin with the options in *given*, without importing it."""
    kind, name = found.spec.kind, found.spec.name
    if problem := factory_problem(found.spec):
        return Finding(kind, name, "broken", problem)
    try:
        options = registry.options(found, given)
        missing = registry.missing(found, options)
    except ConfigError as error:
        return Finding(kind, name, "needs options", str(error))
    except LossylensError as error:
        return Finding(kind, name, "broken", str(error))
    return _finding(kind, name, (_licensed(each, found.spec.licence) for each in missing))


def _finding(kind: str, name: str, missing: Iterable[Missing]) -> Finding:
    lacking = tuple(missing)
    detail = "; ".join(f"{each.what}: {each.remedy}" for each in lacking)
    return Finding(kind, name, "missing" if lacking else "ready", detail, lacking)


def _licensed(missing: Missing, licence: str) -> Missing:
    """Return *missing* with the licence of its file, which is that of the plugin by default."""
    source = missing.source
    if source is None or source.licence:
        return missing
    return dataclasses.replace(missing, source=dataclasses.replace(source, licence=licence))


def check_machine() -> dict[str, str]:
    """Return versions and resources of this machine, by name."""
    found = {
        "lossylens": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "cpus": str(_usable_cpus()),
        "memory": _memory(),
        "disk": f"{_gib(shutil.disk_usage(Path.cwd()).free)} free at {Path.cwd()}",
        "gpus": _gpus(),
    }
    return found | {library: _version(library) for library in LIBRARIES}


def _usable_cpus() -> int:
    # A container or taskset may leave fewer than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    memory = psutil.virtual_memory()
    return f"{_gib(memory.available)} free of {_gib(memory.total)}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _gpus() -> str:
    """Return the names of NVIDIA GPUs; torch would tell too, after seconds."""
    program = shutil.which("nvidia-smi")
    if not program:
        return "none found (no nvidia-smi)"
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        # A fixed command, found on the user's own PATH.
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi failed: {error}"
    return "; ".join(done.stdout.split("\n")).strip("; ") or "none"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
