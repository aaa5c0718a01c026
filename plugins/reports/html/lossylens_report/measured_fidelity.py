"""Reading the fidelity of decoded images out of a run folder."""

from __future__ import annotations

from collections.abc import Mapping

from lossylens.registry.fidelity import FIDELITIES
from lossylens.run.picture_distances import MOST_PSNR
from lossylens.store.database import Store

_MEANS = """
SELECT measured.codec, used.task, measured.metric,
       avg(CASE measured.metric WHEN 'psnr' THEN min(measured.value, ?) ELSE measured.value END)
           AS value
FROM (SELECT DISTINCT task, image FROM sample_images WHERE NOT context) AS used
JOIN fidelity AS measured ON measured.image = used.image
WHERE measured.value IS NOT NULL
GROUP BY measured.codec, used.task, measured.metric
"""

_SETS = "SELECT codec, task, metric, value FROM set_fidelity WHERE value IS NOT NULL"


def read_fidelities(store: Store) -> dict[tuple[str, str], Mapping[str, float]]:
    """Return the metrics of each codec and task, which are given by key, by title.

    A metric per image is its mean over the distinct images of the task that it could be
    measured on; an identical image counts as a PSNR of
    :data:`~lossylens.run.picture_distances.MOST_PSNR`.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for codec, task, metric, value in [*store.rows(_MEANS, (MOST_PSNR,)), *store.rows(_SETS)]:
        if metric in FIDELITIES:
            found.setdefault((codec, task), {})[FIDELITIES[metric].title] = value
    return {
        key: {
            each.title: values[each.title] for each in FIDELITIES.values() if each.title in values
        }
        for key, values in found.items()
    }
