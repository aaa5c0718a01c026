"""Rates per second of film, where a task says how long its films last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from lossylens.cells import UNCOMPRESSED, Note
from lossylens.store import read_models
from lossylens.store.database import Store
from lossylens.store.read_models import GridCell

#: The field of a sample that says how many seconds its film lasts.
SECONDS = "seconds"


def film_rates(store: Store, rows: Sequence[GridCell]) -> Iterator[Note]:
    """Yield for each task on films the rate of each codec and level in bits per second.

    It is the bits of a film's distinct frames over the seconds that it lasts, the mean over the
    films.  The frames are those that were shown, so that this is what it takes to send them.

    Args:
        store: of the run.
        rows: of its grid.
    """
    tasks = {row.task_key: row.task for row in rows}
    for key, label in tasks.items():
        seconds = _seconds(store, key)
        if not seconds:
            continue
        codecs = {
            row.codec_key: f"{row.codec} {row.level}"
            for row in rows
            if row.task_key == key and row.codec_made_of["name"] != UNCOMPRESSED
        }
        rates = [
            f"{name} {rate / 1000:.3g}"
            for codec, name in codecs.items()
            if (rate := _rate(store, key, codec, seconds)) is not None
        ]
        if rates:
            yield Note(
                f"{label}: kbit per second of film, for the frames that were shown, mean over"
                f" {len(seconds)} films: {', '.join(rates)}.",
                frozenset({label}),
            )


def _seconds(store: Store, task: str) -> dict[str, float]:
    """Return how long films last, by the hash of the first frame that is shown."""
    found = {}
    for sample in read_models.shown_samples(store, task):
        fields = json.loads(sample.fields)
        if sample.image and fields.get(SECONDS):
            found[sample.image] = float(fields[SECONDS])
    return found


def _rate(store: Store, task: str, codec: str, seconds: dict[str, float]) -> float | None:
    encoded = read_models.encoded_images(store, task, codec)
    lengths = {each.cluster: seconds[each.image] for each in encoded if each.image in seconds}
    bits: dict[str, int] = {}
    for each in encoded:
        bits[each.cluster] = bits.get(each.cluster, 0) + 8 * each.size
    rates = [bits[film] / length for film, length in lengths.items()]
    return sum(rates) / len(rates) if rates else None
