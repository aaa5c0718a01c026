"""Reading the fidelity of decoded images out of a run folder."""

from __future__ import annotations

from collections.abc import Mapping

from lossylens.registry.fidelity import FIDELITIES
from lossylens.run.picture_distances import MOST_PSNR
from lossylens.store.database import Store
from lossylens.store.read_models import fidelities


def read_fidelities(store: Store) -> dict[tuple[str, str], Mapping[str, float]]:
    """Return the metrics of each codec and task, which are given by key, by title.

    A metric per image is its mean over the distinct images of the task that it could be
    measured on; an identical image counts as a PSNR of
    :data:`~lossylens.run.picture_distances.MOST_PSNR`.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for codec, task, metric, value in fidelities(store, MOST_PSNR):
        if metric in FIDELITIES:
            found.setdefault((codec, task), {})[FIDELITIES[metric].title] = value
    return {
        key: {
            each.title: values[each.title] for each in FIDELITIES.values() if each.title in values
        }
        for key, values in found.items()
    }
