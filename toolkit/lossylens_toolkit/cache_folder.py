"""The folder in which lossylens keeps what can be had again."""

from __future__ import annotations

import os
from pathlib import Path

#: Environment variable that names the folder.
CACHE_VARIABLE = "LOSSYLENS_CACHE"


def cache_folder() -> Path:
    """Return the folder, which need not exist yet.

    ``LOSSYLENS_CACHE`` names it; otherwise it is ``lossylens`` in
    ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lossylens"
