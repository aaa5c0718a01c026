"""Registers the executor ``ray``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lossylens.executor import ExecutorSpec
from lossylens.hookspecs import hookimpl


@dataclass
class PlacementOptions:
    """What the workers of one plugin take.

    Attributes:
        cpus: CPUs of each; null for one.
        gpus: GPUs of each, all on one node; null for what the plugin declares.
        memory: gigabytes that Ray sets aside for each; null for none.
        workers: how many there are at most; null for as many as the cluster has room for.
    """

    cpus: float | None = None
    gpus: float | None = None
    memory: float | None = None
    workers: int | None = None


@dataclass
class RayOptions:
    """Options of the executor.

    Attributes:
        address: of the cluster, HOST:PORT; auto for the one that this machine is part of.
        plugins: what workers take, by place in the configuration: {codecs.vtm: {cpus: 2}}.
        images: folder on each node that keeps images by their hash, so that each travels
            there once; null for one in its folder for temporary files.
        patience: seconds that the check of a node may take.
    """

    address: str = "auto"
    plugins: dict[str, PlacementOptions] = field(default_factory=dict)
    images: str | None = None
    patience: float = 600.0


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
