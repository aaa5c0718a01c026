"""The options of the scenes task, and the checks they share with the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lossylens.errors import ConfigError
from lossylens.names import suggestion

if TYPE_CHECKING:
    from lossylens_task_scenes.photographs import PhotographSet

# Repeated here, and compared in a test, because this module is imported whenever plugins are
# listed and must not import numpy.
_MIN_SIZE = 96
_MAX_SIZE = 2048
_PHOTOGRAPH_SETS: tuple[PhotographSet, ...] = ("all", "held-in", "held-out")


@dataclass
class ScenesOptions:
    """Options of the scenes task.

    Attributes:
        images: number of scenes.
        seed: seed of the scenes; the same seed gives the same data.
        topics: topics to ask about; empty for all.
        size: width and height of a scene in pixels.
        photographs: pictures that backgrounds are cut from: all, held-in, held-out.
    """

    images: int = 100
    seed: int = 7
    topics: list[str] = field(default_factory=list)
    size: int = 224
    photographs: str = "all"


def check_size(size: int) -> int:
    """The size, or ConfigError."""
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise ConfigError(f"size of a scene must be {_MIN_SIZE} to {_MAX_SIZE} pixels, got {size}")
    return size


def check_photographs(name: str) -> PhotographSet:
    """The name of a set of photographs, or ConfigError."""
    for known in _PHOTOGRAPH_SETS:
        if name == known:
            return known
    raise ConfigError(f"unknown set of photographs {name!r}. {suggestion(name, _PHOTOGRAPH_SETS)}")
