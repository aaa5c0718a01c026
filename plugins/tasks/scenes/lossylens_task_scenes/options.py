"""The options of the scenes task, and the checks they share with the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from lossylens.errors import ConfigError

# Repeated here, and compared in a test, because this module is imported whenever plugins are
# listed and must not import numpy.
_MIN_SIZE = 96
_MAX_SIZE = 2048


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
