"""What a plugin registers, without the registry; for the plugin's own tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

S = TypeVar("S")


def registered(hook: Callable[[Callable[[S], None]], None]) -> S:
    """Return the only spec that a plugin's hook registers.

    Args:
        hook: such as the plugin's ``register_codecs``.

    Raises:
        ValueError: it registers none, or several.
    """
    found: list[S] = []
    hook(found.append)
    (spec,) = found
    return spec
