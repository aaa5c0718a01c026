"""The record of a training: one JSON object for each validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TrainingCurve:
    """Lines of JSON, each with the ``step`` that it was written at."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def points(self) -> list[dict[str, Any]]:
        """Return what is recorded; a line that was not finished is left out."""
        points = []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                points.append(json.loads(line))
            except ValueError:
                continue
        return points

    def go_back(self, step: int) -> None:
        """Forget what lies behind *step*, at which the training goes on."""
        kept = [point for point in self.points() if point["step"] <= step]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(f"{json.dumps(point)}\n" for point in kept))
        temporary.replace(self.path)

    def add(self, point: Mapping[str, Any]) -> None:
        """Record *point*."""
        with self.path.open("a") as file:
            file.write(f"{json.dumps(point)}\n")
