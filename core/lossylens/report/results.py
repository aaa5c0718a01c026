"""What a report shows of one run: its cells, warnings and manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class CellResult:
    """One scored cell of the grid.

    Attributes:
        model: label of the VLM, with its adaptor if there is one.
        codec, level, task: labels of the cell.
        uncompressed: whether the codec stands for the original image.
        metric: name of the task's primary metric.
        value: the primary metric.
        higher_is_better: its direction.
        bpp: mean over the distinct images, bits per pixel of the original.
        bpp_total: total bits over total pixels.
        images: how many distinct images.
        samples, failed, missing, unextracted: counts of samples.
        metrics: all metrics, as the task nests them.
    """

    model: str
    codec: str
    level: str
    task: str
    uncompressed: bool
    metric: str
    value: float
    higher_is_better: bool
    bpp: float
    bpp_total: float
    images: int
    samples: int
    failed: int
    missing: int
    unextracted: int
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class RunResults:
    """A run as its report needs it.

    Attributes:
        name: the run folder's name.
        cells: all scored cells.
        unscored: cells of the plan that have no score, in words.
        failures: count of failures by (stage, reason), most frequent first.
        sources: count of distinct images by task and source format.
        manifest: what the run was made with, as nested mappings.
    """

    name: str
    cells: Sequence[CellResult]
    unscored: Sequence[str]
    failures: Sequence[tuple[str, str, int]]
    sources: Sequence[tuple[str, str, int]]
    manifest: Mapping[str, Any]


def by_task(cells: Iterable[CellResult]) -> dict[str, list[CellResult]]:
    """Return the cells of each task, tasks in order of first appearance."""
    grouped: dict[str, list[CellResult]] = {}
    for cell in cells:
        grouped.setdefault(cell.task, []).append(cell)
    return grouped


def reference_of(cell: CellResult, cells: Iterable[CellResult]) -> CellResult | None:
    """Return the uncompressed cell that *cell* is compared with, if it was run."""
    for other in cells:
        if other.uncompressed and other.model == cell.model and other.task == cell.task:
            return other
    return None


def share_kept(cell: CellResult, cells: Iterable[CellResult]) -> float | None:
    """Return the share of the uncompressed score that *cell* keeps, 1 for all of it."""
    reference = reference_of(cell, cells)
    if reference is None or reference.value == 0 or not cell.higher_is_better:
        return None
    return cell.value / reference.value


def warnings(results: RunResults) -> list[str]:
    """Return what a reader must know before trusting the scores."""
    found = [f"No score for {cell}." for cell in results.unscored]
    for stage, reason, count in results.failures:
        things = "failure" if count == 1 else "failures"
        found.append(f"{count} {things} at {stage}: {reason}")
    for cell in results.cells:
        where = f"{cell.model}, {cell.codec} {cell.level}, {cell.task}"
        if cell.failed:
            found.append(f"{where}: {cell.failed} of {cell.samples} samples failed (scored wrong).")
        if cell.missing:
            found.append(f"{where}: {cell.missing} of {cell.samples} samples have no prediction.")
    return found + _falling_curves(results.cells)


def _falling_curves(cells: Sequence[CellResult]) -> list[str]:
    """Name curves on which a higher rate scores worse, which BD figures cannot treat well."""
    found = []
    curves: dict[tuple[str, str, str], list[CellResult]] = {}
    for cell in cells:
        if not cell.uncompressed:
            curves.setdefault((cell.model, cell.codec, cell.task), []).append(cell)
    for (model, codec, task), points in curves.items():
        points.sort(key=lambda cell: cell.bpp)
        for low, high in pairwise(points):
            worse = high.value < low.value if high.higher_is_better else high.value > low.value
            if worse:
                found.append(
                    f"{model}, {codec}, {task}: not monotone, {high.level} ({high.value:.2f})"
                    f" scores worse than {low.level} ({low.value:.2f})."
                )
    return found


def findings(results: RunResults) -> list[str]:
    """Return the main results in words: per model, task and codec, what the lowest rate keeps."""
    found = []
    for task, cells in by_task(results.cells).items():
        for model in sorted({cell.model for cell in cells}):
            kept = [
                (cell, share)
                for cell in cells
                if cell.model == model and not cell.uncompressed
                if (share := share_kept(cell, cells)) is not None
            ]
            enough = [cell for cell, share in kept if share >= 0.95]
            if enough:
                best = min(enough, key=lambda cell: cell.bpp)
                found.append(
                    f"{task}, {model}: {best.codec} {best.level} keeps at least 95 % of the"
                    f" uncompressed score at {best.bpp:.3f} bpp, the least of the rate points run."
                )
            elif kept:
                cell, share = max(kept, key=lambda pair: pair[1])
                found.append(
                    f"{task}, {model}: no rate point keeps 95 % of the uncompressed score;"
                    f" {cell.codec} {cell.level} keeps {100 * share:.1f} % at {cell.bpp:.3f} bpp."
                )
    return found
