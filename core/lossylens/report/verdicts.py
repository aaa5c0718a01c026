"""Verdicts of a run as arrays, and the bootstrap over its images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Row
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossylens.codec import bits_per_pixel
from lossylens.metrics.bootstrap import Array, f1_of_sums, mean_of_sums, resampled_sums
from lossylens.report.cells import CellResult
from lossylens.store import Store


@dataclass(frozen=True)
class TaskVerdicts:
    """All verdicts on one task.

    Attributes:
        samples: ids, in the order of the data.
        images: hashes of the distinct images.
        image: per sample, the place of its image in *images*; -1 without one.
        is_yes: per sample, whether the right answer is yes; None unless all are yes or no.
        splits: per sample, how many splits it is in and counts in (POPE's objects are
            random, popular or adversarial, or several of these).
        verdicts: by cell key, per sample: 1 right, 0 wrong, or between; NaN for none.
        said_yes: by cell key, per sample; only where *is_yes* is known.
    """

    samples: tuple[str, ...]
    images: tuple[str, ...]
    image: NDArray[np.int64]
    is_yes: NDArray[np.bool_] | None
    splits: Array
    verdicts: Mapping[str, NDArray[np.float32]]
    said_yes: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Replicates:
    """Bootstrap replicates of one cell; the same draw of images has the same place in all.

    Attributes:
        scores: of shape (replicates,).
        rates: mean bits per pixel, of the same shape; None for an uncompressed cell.
    """

    scores: Array
    rates: Array | None


def read_verdicts(store: Store, rows: Sequence[Row]) -> dict[str, TaskVerdicts]:
    """Return the verdicts of the cells in *rows*, by task label."""
    by_task: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        by_task.setdefault((row["task_label"], row["task"]), []).append(row["key"])
    return {label: _of_task(store, task, keys) for (label, task), keys in by_task.items()}


def _of_task(store: Store, task: str, cells: Sequence[str]) -> TaskVerdicts:
    rows = store.rows(
        "SELECT id, image, json_extract(fields, '$.answer') AS answer,"
        " json_extract(fields, '$.category') AS category FROM shown_samples"
        " WHERE task = ? ORDER BY position",
        (task,),
    )
    samples = tuple(row["id"] for row in rows)
    images = tuple(dict.fromkeys(row["image"] for row in rows if row["image"]))
    place = {image: number for number, image in enumerate(images)}
    answers = {str(row["answer"]).lower() for row in rows}
    is_yes = None
    if answers <= {"yes", "no"}:
        is_yes = np.array([str(row["answer"]).lower() == "yes" for row in rows])
    of_sample = {sample: number for number, sample in enumerate(samples)}
    verdicts, said_yes = {}, {}
    for cell in cells:
        verdicts[cell], said = _of_cell(store, cell, of_sample)
        if is_yes is not None:
            said_yes[cell] = said
    return TaskVerdicts(
        samples,
        images,
        np.array([place.get(row["image"], -1) for row in rows], dtype=np.int64),
        is_yes,
        np.array([1.0 + str(row["category"]).count(",") for row in rows]),
        verdicts,
        said_yes,
    )


def _of_cell(
    store: Store, cell: str, place: Mapping[str, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    verdicts = np.full(len(place), np.nan, dtype=np.float32)
    said_yes = np.zeros(len(place), dtype=np.bool_)
    for sample, verdict, extracted in store.rows(
        "SELECT sample, verdict, extracted FROM verdicts WHERE cell = ?", (cell,)
    ):
        number = place.get(sample)
        if number is None:
            continue
        if verdict is not None:
            verdicts[number] = verdict
        said_yes[number] = extracted == "Yes"
    return verdicts, said_yes


def replicate(
    store: Store,
    rows: Sequence[Row],
    cells: Sequence[CellResult],
    verdicts: Mapping[str, TaskVerdicts],
) -> dict[str, Replicates]:
    """Return bootstrap replicates by cell key, of the cells whose metric can be recomputed."""
    found: dict[str, Replicates] = {}
    sizes = {
        row["sha256"]: (row["width"], row["height"])
        for row in store.rows("SELECT sha256, width, height FROM images WHERE failure IS NULL")
    }
    codecs = {row["key"]: row["codec"] for row in rows}
    for task, judged in verdicts.items():
        if len(judged.images) < 2:
            continue
        of_task = [cell for cell in cells if cell.task == task]
        rates = {
            codec: _rate_sums(store, codec, judged, sizes)
            for codec in {codecs[cell.key] for cell in of_task if not cell.uncompressed}
        }
        found |= _replicated(of_task, judged, codecs, rates)
    return found


def _replicated(
    cells: Sequence[CellResult],
    judged: TaskVerdicts,
    codecs: Mapping[str, str],
    rates: Mapping[str, Array],
) -> dict[str, Replicates]:
    """Resample the images of one task once for all its cells."""
    columns: list[Array] = list(rates.values())
    parts: list[tuple[CellResult, Callable[[Array], Any], slice]] = []
    width = 2 * len(rates)
    for cell in cells:
        statistic = _statistic(cell, judged)
        if statistic is not None:
            sums, function = statistic
            parts.append((cell, function, slice(width, width + sums.shape[1])))
            columns.append(sums)
            width += sums.shape[1]
    if not parts:
        return {}
    drawn = resampled_sums(np.hstack(columns))
    mean = mean_of_sums(1.0)
    of_codec = {
        codec: mean(drawn[:, 2 * number : 2 * number + 2]) for number, codec in enumerate(rates)
    }
    return {
        cell.key: Replicates(function(drawn[:, part]), of_codec.get(codecs[cell.key]))
        for cell, function, part in parts
    }


def _rate_sums(
    store: Store, codec: str, judged: TaskVerdicts, sizes: Mapping[str, tuple[int, int]]
) -> Array:
    """Return rate and count of each image; an image without an encoding has zeros."""
    sums = np.zeros((len(judged.images), 2))
    place = {image: number for number, image in enumerate(judged.images)}
    for image, size in store.rows(
        "SELECT image, bytes FROM encodings WHERE codec = ? AND bytes IS NOT NULL", (codec,)
    ):
        if image in place and image in sizes:
            sums[place[image]] = bits_per_pixel(size, *sizes[image]), 1
    return sums


def _statistic(
    cell: CellResult, judged: TaskVerdicts
) -> tuple[Array, Callable[[Array], Any]] | None:
    """Return sums over each image and the function of them that gives the cell's score.

    A function counts only if it reproduces the score of all images.
    """
    for sums, function in _candidates(cell, judged):
        value = float(function(sums.sum(axis=0)))
        if math.isclose(value, cell.value, rel_tol=1e-5, abs_tol=1e-6):
            return sums, function
    return None


def _candidates(
    cell: CellResult, judged: TaskVerdicts
) -> Iterator[tuple[Array, Callable[[Array], Any]]]:
    verdicts = judged.verdicts[cell.key]
    known = np.isfinite(verdicts) & (judged.image >= 0)
    count = float(known.sum())
    hits = _by_image(judged, np.where(known, verdicts, 0.0))
    asked = _by_image(judged, known.astype(float))
    for factor in (1.0, 100.0, count):
        yield np.stack([hits, asked], axis=1), mean_of_sums(factor)
    if judged.is_yes is not None:
        said = judged.said_yes[cell.key]
        columns = (said & judged.is_yes, said, judged.is_yes)
        parts = [_by_image(judged, column * judged.splits) for column in columns]
        yield np.stack(parts, axis=1), f1_of_sums


def _by_image(judged: TaskVerdicts, values: Array) -> Array:
    """Return the sum of *values*, one for each sample, over each image."""
    inside = judged.image >= 0
    sums = np.bincount(judged.image[inside], weights=values[inside], minlength=len(judged.images))
    return sums.astype(np.float64)
