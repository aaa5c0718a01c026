"""Registers the executor ``ray``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from lossylens.executor import ExecutorSpec
from lossylens.hookspecs import hookimpl

#: Of a CPU or GPU, the least that Ray knows.
_LEAST_SHARE = 0.0001


@dataclass
class PlacementOptions:
    """What the workers of one plugin take.

    Attributes:
        cpus: CPUs of each; null for one.
        gpus: GPUs of each, all on one node; null for what the plugin declares.
        memory: gigabytes that Ray sets aside for each; null for none.
        workers: how many there are at most; null for as many as the cluster has room for.

    Raises:
        ValueError: a value out of range.
    """

    cpus: float | None = None
    gpus: float | None = None
    memory: float | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("cpus", "gpus"):
            value = getattr(self, name)
            if value and not _LEAST_SHARE <= value < math.inf:
                raise ValueError(f"{name} must be a number, 0 or {_LEAST_SHARE} or more: {value}")
        if self.gpus is not None and self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus must be a share of one, or whole ones, got {self.gpus}")
        if self.memory is not None and not 0 < self.memory < math.inf:
            raise ValueError(f"memory must be gigabytes, more than 0, got {self.memory}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


@dataclass
class RayOptions:
    """Options of the executor.

    Attributes:
        address: of the cluster, HOST:PORT; auto for the one that this machine is part of.
        plugins: what workers take, by place in the configuration: {codecs.vtm: {cpus: 2}}.
        images: folder on each node that keeps images by their hash, so that each travels
            there once; null for one in its folder for temporary files.
        patience: seconds that the check of a node may take.

    Raises:
        ValueError: a value out of range.
    """

    address: str = "auto"
    plugins: dict[str, PlacementOptions] = field(default_factory=dict)
    images: str | None = None
    patience: float = 600.0

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.patience < math.inf:
            raise ValueError(f"patience must be seconds, more than 0, got {self.patience}")


@hookimpl
def register_executors(register: Callable[[ExecutorSpec], None]) -> None:
    """Register the executor."""
    register(
        ExecutorSpec(
            name="ray",
            summary="workers on the nodes of a Ray cluster",
            factory="lossylens_executor_ray.executor:RayExecutor",
            category="cluster",
            citation="Moritz et al., Ray: A Distributed Framework for Emerging AI"
            " Applications, OSDI 2018",
            licence="Apache-2.0",
            options=RayOptions,
        )
    )
