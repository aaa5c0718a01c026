"""What this machine has, and what the installed plugins still need."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from lossylens import __version__
from lossylens.errors import ConfigError, LossylensError
from lossylens.registry.fidelity import FIDELITIES
from lossylens.registry.import_paths import factory_problem
from lossylens.registry.plugins import KINDS, Registered, Registry

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
    """

    kind: str
    name: str
    status: str
    detail: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it for JSON."""
        return dataclasses.asdict(self)


def check_plugins(registry: Registry) -> list[Finding]:
    """Check the requirements of all that *registry* holds, without importing it."""
    return [_check(registry, each) for kind in KINDS for each in registry.all(kind)]


def check_fidelities() -> list[Finding]:
    """Check what the metrics of ``run.fidelity`` need."""
    findings = []
    for each in FIDELITIES.values():
        detail = "; ".join(f"{one.what}: {one.remedy}" for one in each.missing())
        findings.append(Finding("fidelity", each.name, "missing" if detail else "ready", detail))
    return findings


def _check(registry: Registry, found: Registered[Any]) -> Finding:
    kind, name = found.spec.kind, found.spec.name
    if problem := factory_problem(found.spec):
        return Finding(kind, name, "broken", problem)
    try:
        options = registry.options(found)
        missing = registry.missing(found, options)
    except ConfigError as error:
        return Finding(kind, name, "needs options", str(error))
    except LossylensError as error:
        return Finding(kind, name, "broken", str(error))
    detail = "; ".join(f"{each.what}: {each.remedy}" for each in missing)
    return Finding(kind, name, "missing" if missing else "ready", detail)


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
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kibibytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        total, free = kibibytes["MemTotal"] * 1024, kibibytes["MemAvailable"] * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return "unknown"
    return f"{_gib(free)} free of {_gib(total)}"


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
