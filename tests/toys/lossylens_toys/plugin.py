"""Registers the toys; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lossylens.adaptor import AdaptorSpec
from lossylens.codec import CodecSpec, Level
from lossylens.executor import ExecutorSpec
from lossylens.hookspecs import hookimpl
from lossylens.task import Primary, TaskSpec


@dataclass
class ToyOptions:
    checkpoint: Path | None = None
    checkpoints: dict[str, Path] = field(default_factory=dict)


@dataclass
class ToyTraining:
    steps: int = 6
    batch: int = 2
    workers: int = 0


@hookimpl
def register_adaptors(register):
    for name, what in (
        ("condition", "tells the encoder codec and level"),
        ("entry", "enters the encoder at its second layer, from latents alone"),
        ("states", "adds states made of latents to every token"),
    ):
        register(
            AdaptorSpec(
                name=f"toy-{name}",
                summary=what,
                factory=f"lossylens_toys.adaptors:{name.capitalize()}",
                options=ToyOptions,
                trainer=f"lossylens_toys.training:{name.capitalize()}Trainer",
                training=ToyTraining,
            )
        )
    register(AdaptorSpec(name="toy-blur", summary="smooths", factory="lossylens_toys.blur:Blur"))


@hookimpl
def register_codecs(register):
    register(
        CodecSpec(
            name="toy-batches",
            summary="deflates several pictures at once",
            factory="lossylens_toys.codec:Batches",
            levels=(Level("s4", {"shift": 4}), Level("s2", {"shift": 2})),
        )
    )


@hookimpl
def register_tasks(register):
    register(
        TaskSpec(
            name="toy-several",
            summary="questions about several scenes at once",
            factory="lossylens_toys.task:Several",
            primary=Primary("accuracy", 0, 100),
        )
    )


@hookimpl
def register_executors(register):
    register(
        ExecutorSpec(
            name="toy-apart",
            summary="workers that do not see the run folder",
            factory="lossylens_toys.executor:Apart",
        )
    )
