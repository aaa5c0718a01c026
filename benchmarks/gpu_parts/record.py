"""What was measured: rows of a table, kept as JSON too, within a time for each part."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: What a row can be marked as: contrary to what is promised, under half of what the device
#: could do, or not measured at all.
FAULT, SLOW, SKIPPED = "FAULT", "slow", "not measured"

#: Exit status of a script that ran out of time.
LATE = 3


@dataclass
class Row:
    """One measurement.

    Attributes:
        part: of the script.
        subject: what was measured: a model, a codec.
        measure: of it.
        value: found; None where nothing was.
        unit: of the value.
        mark: ``""`` or one of the marks of this module.
        note: what is to be known beside it.
    """

    part: str
    subject: str
    measure: str
    value: float | None
    unit: str = ""
    mark: str = ""
    note: str = ""


class Clock:
    """The time that a part has."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left; negative when they are gone."""
        return self._end - time.monotonic()

    def share(self, of: int) -> Clock:
        """Return a clock for one of *of* equal pieces of what is left."""
        return Clock(self.left / max(1, of))


@dataclass
class Record:
    """All that was measured.

    Attributes:
        path: of the JSON file; written after each part, so that nothing is lost.
        facts: about machine and versions.
        rows: measurements, in order.
        errors: tracebacks of what broke off.
        seconds: that each part took.
    """

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(
        self,
        part: str,
        subject: str,
        measure: str,
        value: float,
        unit: str = "",
        *,
        mark: str = "",
        note: str = "",
    ) -> None:
        """Add a measurement and say it."""
        self._add(Row(part, subject, measure, float(value), unit, mark, note))

    def skip(self, part: str, subject: str, measure: str, reason: str) -> None:
        """Say what is not measured, and why."""
        self._add(Row(part, subject, measure, None, mark=SKIPPED, note=reason))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print(" ".join(_cells(row)), file=sys.stderr, flush=True)

    @contextmanager
    def guard(self, part: str, subject: str) -> Iterator[None]:
        """Record an error, so that what follows has its turn all the same."""
        try:
            yield
        except Exception as error:
            name = f"{part} {subject}".rstrip()
            self.errors[name] = traceback.format_exc()
            print(self.errors[name], file=sys.stderr, flush=True)
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            self._add(Row(part, subject, "broke off", None, mark=FAULT, note=reason))

    @contextmanager
    def part(self, name: str, seconds: float) -> Iterator[Clock]:
        """Give a part its time, and write the file when it is done."""
        started = time.monotonic()
        with self.guard(name, ""):
            yield Clock(seconds)
        self.seconds[name] = round(time.monotonic() - started, 1)
        self.write()

    def stop_at(self, seconds: float, folder: Path) -> threading.Timer:
        """End the process after *seconds*, with the table and the JSON of what there is.

        Args:
            seconds: from now.
            folder: of temporary files, to be removed.
        """

        def end() -> None:
            self._add(Row("all", "", "time is up", None, mark=SKIPPED, note="the rest"))
            self.write()
            print(self.table(), flush=True)
            for child in multiprocessing.active_children():
                child.terminate()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(LATE)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        return timer

    @property
    def faulty(self) -> bool:
        """Whether something is contrary to what is promised."""
        return any(row.mark == FAULT for row in self.rows)

    def write(self) -> None:
        """Write the JSON file."""
        content: Mapping[str, Any] = {
            "facts": self.facts,
            "rows": [asdict(row) for row in list(self.rows)],
            "errors": self.errors,
            "seconds": self.seconds,
        }
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.path)

    def table(self) -> str:
        """Return the rows as a table, below the facts."""
        cells = [("part", "subject", "measure", "value", "mark", "note"), *map(_cells, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(5)]
        lines = [
            "  ".join(
                cell.rjust(width) if column == 3 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row[:5], widths, strict=True))
            )
            + f"  {row[5]}"
            for row in cells
        ]
        head = [f"{name}: {value}" for name, value in self.facts.items()]
        return "\n".join([*head, "", *(line.rstrip() for line in lines)])


def _cells(row: Row) -> tuple[str, ...]:
    value = "-" if row.value is None else f"{row.value:.4g} {row.unit}".rstrip()
    return row.part, row.subject, row.measure, value, row.mark, row.note
