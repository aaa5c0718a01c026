"""What plugins of codecs with a quality scale declare; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from lossylens.codec import Level
from lossylens.spec import Missing

_SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


def quality_level(quality: int) -> Level:
    """Return the level of a quality, such as ``q5``."""
    return Level(f"q{quality}", {"quality": quality})


def quality_parser(qualities: range) -> Callable[[str], Level | None]:
    """Return the ``parse_level`` of a codec with these whole-numbered qualities."""

    def parse_level(name: str) -> Level | None:
        match = re.fullmatch(r"q(0|[1-9]\d{0,5})", name.strip().lower(), re.ASCII)
        return quality_level(int(match[1])) if match and int(match[1]) in qualities else None

    return parse_level


def subsampling_with_colons(text: str) -> str:
    """Return a chroma subsampling, given with or without the colons, with them.

    Raises:
        ValueError: it is none of 4:4:4, 4:2:2 and 4:2:0.
    """
    for known in _SUBSAMPLINGS:
        if text in (known, known.replace(":", "")):
            return known
    raise ValueError(
        f"subsampling {text!r} is not 4:4:4, 4:2:2 or 4:2:0 (YAML needs quotes around these)"
    )


def pillow_with(feature: str, what: str, remedy: str) -> Callable[[Any], Sequence[Missing]]:
    """Return the requirement check of a codec that Pillow may have been built without.

    Args:
        feature: Pillow's name of it.
        what, remedy: see :class:`~lossylens.spec.Missing`.
    """

    def missing(options: Any) -> Sequence[Missing]:
        from PIL import features

        return () if features.check(feature) else (Missing(what, remedy),)

    return missing
