"""Figures that a source printed beside those recomputed from its scores, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lossylens.cells import CellResult, Reported

from lossylens_report.analysis import Analysis, Outcome
from lossylens_report.run_results import SourceResults

Status = Literal["agrees", "differs", "illegible", "no figure"]

#: Labels that tell printed figures apart: measure, task, model, codec and level.
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Compared:
    """A printed figure and the recomputed one.

    Attributes:
        printed: what was printed.
        value: what is recomputed, or the reason why nothing is.
    """

    printed: Reported
    value: Outcome

    @property
    def status(self) -> Status:
        """How the two compare; an illegible cell cannot agree, whatever is recomputed."""
        if isinstance(self.value, str):
            return "no figure"
        if self.printed.value is None:
            return "illegible"
        # Printed figures are decimal: a difference of the tolerance itself is within it.
        near = abs(self.value - self.printed.value) <= self.printed.tolerance + 1e-9
        return "agrees" if near else "differs"

    @property
    def reason(self) -> str:
        """Why the cell does not agree; ``""`` for one that does and is not in doubt."""
        if isinstance(self.value, str):
            return self.value
        if self.printed.value is None:
            return "lost in the text of the paper"
        if self.status == "differs":
            return self.printed.doubt or "not known"
        return self.printed.doubt

    @property
    def difference(self) -> float | None:
        """Recomputed minus printed; None where one of the two is missing."""
        if isinstance(self.value, str) or self.printed.value is None:
            return None
        return self.value - self.printed.value


@dataclass(frozen=True)
class Agreement:
    """How one printed table compares.

    Attributes:
        table: where it was printed.
        measure: what its cells are.
        cells: all of them.
    """

    table: str
    measure: str
    cells: tuple[Compared, ...]

    def count(self, status: Status) -> int:
        """Return how many cells compare like that."""
        return sum(cell.status == status for cell in self.cells)

    @property
    def largest(self) -> str:
        """Largest difference of the cells that agree, in words; ``""`` where there are none.

        In percent of the printed figure, but of a rate in bpp: its two decimals are few.
        """
        agreeing = [
            (abs(cell.difference), cell.printed.value)
            for cell in self.cells
            if cell.status == "agrees" and cell.difference is not None and cell.printed.value
        ]
        if not agreeing:
            return ""
        if self.measure == "rate":
            return f"{max(difference for difference, _ in agreeing):.4f} bpp"
        return f"{max(100 * difference / abs(value) for difference, value in agreeing):.2f} %"


def compare_printed(analysis: Analysis, source: SourceResults) -> list[Agreement]:
    """Return how all that *source* printed compares, by table and measure in its order."""
    figures = dict(_all_figures(analysis, source.name))
    found: dict[tuple[str, str], list[Compared]] = {}
    for each in source.reported:
        value = _recomputed(figures, each)
        found.setdefault((each.table, each.measure), []).append(Compared(each, value))
    return [Agreement(table, measure, tuple(cells)) for (table, measure), cells in found.items()]


def _recomputed(figures: Mapping[Key, Outcome], each: Reported) -> Outcome:
    key = (each.measure, each.task, each.model, each.codec, each.level)
    if key in figures:
        return figures[key]
    if each.measure == "bd-gain":
        return "the adaptor's scores are not published"
    return "no scores"


def _all_figures(analysis: Analysis, source: str) -> Iterator[tuple[Key, Outcome]]:
    """Yield every figure that *source* may have printed, under the names that it has there."""
    for group in analysis.groups:
        for curve in group.curves.values():
            if curve.cells:
                task = curve.cells[0].task
                for model in _names(curve.cells[0], source):
                    yield ("bd-metric", task, model, curve.codec, ""), curve.bd
        for cell in group.group.cells:
            labels = (cell.codec, cell.level)
            for model in _names(cell, source):
                yield ("score", cell.task, model, *labels), cell.value
            if math.isfinite(cell.bpp):
                yield ("rate", cell.task, "", *labels), cell.bpp
        for each in group.gaps:
            cell = each.cell
            for model in _names(cell, source):
                where = (cell.task, model, cell.codec, cell.level)
                yield ("performance gap", *where), each.gap.performance
                yield ("information gap", *where), each.gap.information
                yield ("generalisation gap", *where), each.gap.generalisation


def _names(cell: CellResult, source: str) -> Iterator[str]:
    """Yield the model's name here, and in its source if that is another.

    A VLM that several sources have carries its source's name.
    """
    yield cell.model
    own = cell.vlm.removesuffix(f" ({source})")
    if own != cell.vlm:
        yield replace(cell, vlm=own).model
