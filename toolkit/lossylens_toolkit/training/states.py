"""States of a training on disk: each is whole or absent, whenever the process dies."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_NAME = re.compile(r"step-(\d+)")
_UNFINISHED = "unfinished"


class States:
    """A folder of states, of which the last is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> tuple[Path, int] | None:
        """Return the last state and the number of its step, or None."""
        found = []
        for path in self.folder.glob("step-*"):
            match = _NAME.fullmatch(path.name)
            if match:
                found.append((int(match[1]), path))
        return (max(found)[1], max(found)[0]) if found else None

    @property
    def unfinished(self) -> Path:
        """Where the next state is put together."""
        return self.folder / _UNFINISHED

    def prepare(self) -> Path:
        """Return :attr:`unfinished`, empty."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)
        return self.unfinished

    def finish(self, step: int) -> None:
        """Make :attr:`unfinished` the state of *step*, and drop those before."""
        final = self.folder / f"step-{step:09d}"
        shutil.rmtree(final, ignore_errors=True)
        self.unfinished.rename(final)
        for path in self.folder.glob("step-*"):
            if path != final:
                shutil.rmtree(path)
