"""Verdicts of a run as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from lossylens.store import read_models
from lossylens.store.database import Store
from lossylens.store.read_models import GridCell, sample_topics
from numpy.typing import NDArray


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


def read_verdicts(store: Store, cells: Sequence[GridCell]) -> dict[str, TaskVerdicts]:
    """Return the verdicts of *cells*, by task label."""
    by_task: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        by_task.setdefault((cell.task, cell.task_key), []).append(cell.key)
    return {label: _of_task(store, task, keys) for (label, task), keys in by_task.items()}


def _of_task(store: Store, task: str, cells: Sequence[str]) -> TaskVerdicts:
    rows = sample_topics(store, task)
    samples = tuple(sample for sample, _, _ in rows)
    images = tuple(dict.fromkeys(image for _, image, _ in rows if image))
    place = {image: number for number, image in enumerate(images)}
    of_sample = {sample: number for number, sample in enumerate(samples)}
    return TaskVerdicts(
        samples,
        images,
        np.array([place.get(image or "", -1) for _, image, _ in rows], dtype=np.int64),
        tuple(topic for _, _, topic in rows),
        {cell: _of_cell(store, cell, of_sample) for cell in cells},
    )


def _of_cell(store: Store, cell: str, place: Mapping[str, int]) -> NDArray[np.float32]:
    verdicts = np.full(len(place), np.nan, dtype=np.float32)
    for sample, verdict in read_models.verdicts(store, cell):
        if sample in place:
            verdicts[place[sample]] = verdict
    return verdicts
