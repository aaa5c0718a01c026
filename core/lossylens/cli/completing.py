"""What the shell offers while a command is typed, beside the names of options."""

from __future__ import annotations

from collections.abc import Callable


def names_of(*kinds: str) -> Callable[[str], list[str]]:
    """Return a function that returns the names of plugins of *kinds* with a given beginning."""

    def complete(incomplete: str) -> list[str]:
        from lossylens.registry.plugins import load_registry

        registry = load_registry(strict=False)
        names = {each.spec.name for kind in kinds for each in registry.all(kind)}
        return sorted(name for name in names if name.startswith(incomplete))

    return complete
