"""Verdicts of a run as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Row

import numpy as np
from lossylens.store.database import Store
from numpy.typing import NDArray

# Tasks call it a topic, or a category where they know no other.
_SAMPLES = """
SELECT id, image, coalesce(
    json_extract(fields, '$.topic'), json_extract(fields, '$.category')
) AS topic
FROM shown_samples WHERE task = ? ORDER BY position
"""


@dataclass(frozen=True)
class TaskVerdicts:
    """All verdicts on one task.

    Attributes:
        samples: ids, in the order of the data.
        images: hashes of the distinct images that samples have first.
        image: per sample, the place of its first image in *images*; -1 without one.
        topics: of each sample, ``""`` where the task names none.
        verdicts: by cell key, per sample: 1 right, 0 wrong, or between; NaN for none.
    """

    samples: tuple[str, ...]
    images: tuple[str, ...]
    image: NDArray[np.int64]
    topics: tuple[str, ...]
    verdicts: Mapping[str, NDArray[np.float32]]


def read_verdicts(store: Store, rows: Sequence[Row]) -> dict[str, TaskVerdicts]:
    """Return the verdicts of the cells in *rows*, by task label."""
    by_task: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        by_task.setdefault((row["task_label"], row["task"]), []).append(row["key"])
    return {label: _of_task(store, task, keys) for (label, task), keys in by_task.items()}


def _of_task(store: Store, task: str, cells: Sequence[str]) -> TaskVerdicts:
    rows = store.rows(_SAMPLES, (task,))
    samples = tuple(row["id"] for row in rows)
    images = tuple(dict.fromkeys(row["image"] for row in rows if row["image"]))
    place = {image: number for number, image in enumerate(images)}
    of_sample = {sample: number for number, sample in enumerate(samples)}
    return TaskVerdicts(
        samples,
        images,
        np.array([place.get(row["image"], -1) for row in rows], dtype=np.int64),
        tuple(str(row["topic"] or "") for row in rows),
        {cell: _of_cell(store, cell, of_sample) for cell in cells},
    )


def _of_cell(store: Store, cell: str, place: Mapping[str, int]) -> NDArray[np.float32]:
    verdicts = np.full(len(place), np.nan, dtype=np.float32)
    query = "SELECT sample, verdict FROM verdicts WHERE cell = ? AND verdict IS NOT NULL"
    for sample, verdict in store.rows(query, (cell,)):
        if sample in place:
            verdicts[place[sample]] = verdict
    return verdicts
