"""What a report reads out of a run folder: the latest configuration, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lossylens.store.database import Store
from lossylens.store.records import Absence


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A start of a run.

    Attributes:
        started, ended: in ISO 8601; ended is None while it runs, or where it was killed.
        outcome: done, interrupted or error; None as *ended*.
        config: as written.
        manifest: what it was made with.
    """

    started: str
    ended: str | None
    outcome: str | None
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredScore:
    """The score of a cell.

    Attributes:
        value: None if it is not a number.
        metrics: as the task nests them.
        samples, missing, failed, unextracted: counts of samples.
        images: distinct ones with a rate.
        rate, total_rate: mean bits per pixel; bits over pixels of all images.
        limited: whether the task has more images than were asked about.
    """

    value: float | None
    metrics: Mapping[str, Any]
    samples: int
    missing: int
    failed: int
    unextracted: int
    images: int
    rate: float | None
    total_rate: float | None
    limited: bool


@dataclass(frozen=True, slots=True)
class GridCell:
    """A cell of the latest configuration: keys, labels, what its parts are made of.

    Attributes:
        score: None before it is scored.
        questions: of its task.
        answered: how many have an answer, or a failure that will not pass.
    """

    key: str
    vlm_key: str
    codec_key: str
    task_key: str
    vlm: str
    adaptor: str
    codec: str
    level: str
    task: str
    vlm_made_of: Mapping[str, Any]
    codec_made_of: Mapping[str, Any]
    score: StoredScore | None
    questions: int
    answered: int


@dataclass(frozen=True, slots=True)
class ShownSample:
    """A sample with the first of its images.

    Attributes:
        image: hash, None where the file could not be read.
        question, fields: as JSON.
    """

    id: str
    image: str | None
    question: str
    fields: str


@dataclass(frozen=True, slots=True)
class StoredResampling:
    """How a cell's score is made of its samples: sums by cluster."""

    aggregate: str
    factor: float
    sums: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image of a task behind a codec: its cluster, bytes of the bitstream, width and height."""

    cluster: str
    image: str
    size: int
    width: int
    height: int


class FailureCount(NamedTuple):
    """How many samples have failed at one stage for one reason."""

    stage: str
    reason: str
    samples: int


class FormatCount(NamedTuple):
    """How many distinct images of a task, by its label, have one source format."""

    task: str
    format: Mapping[str, Any]
    images: int


class SampleTopic(NamedTuple):
    """A sample, the first of its images, and its topic, ``""`` where the task names none."""

    sample: str
    image: str | None
    topic: str


class GivenAnswer(NamedTuple):
    """Text of a prediction, or the reason why there is none."""

    text: str | None
    failure: str | None


class StoredVerdict(NamedTuple):
    """What a sample was scored with."""

    sample: str
    value: float


class MeanFidelity(NamedTuple):
    """A metric of a codec on a task, both by key: mean over images, or value of the set."""

    codec: str
    task: str
    metric: str
    value: float


class EncodingCost(NamedTuple):
    """What a codec costs on a task, both by key.

    Bytes of an image's bitstream, mean and most; and the mean seconds that encoding one took,
    None where another run did it.
    """

    codec: str
    task: str
    size: float
    largest: int
    seconds: float | None


def latest_run(store: Store) -> StoredRun | None:
    """Return the latest start, None if there was none."""
    query = "SELECT started, ended, outcome, config, manifest FROM runs ORDER BY id DESC LIMIT 1"
    for started, ended, outcome, config, manifest in store.rows(query):
        return StoredRun(started, ended, outcome, json.loads(config), json.loads(manifest))
    return None


_GRID = """
SELECT cells.*, codecs.description AS codec_made_of, vlms.description AS vlm_made_of, scores.*,
       coalesce(asked.count, 0) AS questions, coalesce(done.count, 0) AS answered
FROM cells
JOIN parts AS codecs ON codecs.key = cells.codec
JOIN parts AS vlms ON vlms.key = cells.vlm
LEFT JOIN scores ON scores.cell = cells.key
LEFT JOIN (SELECT task, count(*) AS count FROM samples GROUP BY task) AS asked
    ON asked.task = cells.task
LEFT JOIN (
    SELECT predictions.cell, count(*) AS count
    FROM predictions
    JOIN cells ON cells.key = predictions.cell
    JOIN samples ON samples.task = cells.task AND samples.id = predictions.sample
    WHERE cells.position IS NOT NULL AND NOT predictions.transient
    GROUP BY predictions.cell
) AS done ON done.cell = cells.key
WHERE cells.position IS NOT NULL
ORDER BY cells.position
"""


def grid(store: Store) -> list[GridCell]:
    """Return the cells of the latest configuration, in its order."""
    return [
        GridCell(
            key=row["key"],
            vlm_key=row["vlm"],
            codec_key=row["codec"],
            task_key=row["task"],
            vlm=row["vlm_label"],
            adaptor=row["adaptor_label"],
            codec=row["codec_label"],
            level=row["level"],
            task=row["task_label"],
            vlm_made_of=json.loads(row["vlm_made_of"]),
            codec_made_of=json.loads(row["codec_made_of"]),
            score=None if row["cell"] is None else _score(row),
            questions=row["questions"],
            answered=row["answered"],
        )
        for row in store.rows(_GRID)
    ]


def _score(row: Any) -> StoredScore:
    return StoredScore(
        value=row["value"],
        metrics=json.loads(row["metrics"]),
        samples=row["samples"],
        missing=row["missing"],
        failed=row["failed"],
        unextracted=row["unextracted"],
        images=row["images"],
        rate=row["bpp_mean"],
        total_rate=row["bpp_total"],
        limited=bool(row["limited"]),
    )


def absences(store: Store) -> list[Absence]:
    """Return which cells of the latest configuration do not exist, and why."""
    rows = store.rows(
        "SELECT vlm_label, adaptor_label, codec_label, level, task_label, reason FROM absences"
        " ORDER BY position"
    )
    return [Absence(*map(str, row)) for row in rows]


def count_earlier(store: Store) -> int:
    """Return how many cells of other configurations there are.

    Counted are those that were begun: a start that was killed at once leaves others.
    """
    rows = store.rows(
        "SELECT count(*) FROM cells WHERE position IS NULL"
        " AND EXISTS (SELECT * FROM predictions WHERE predictions.cell = cells.key)"
    )
    return int(rows[0][0])


def failures(store: Store) -> list[FailureCount]:
    """Return the failures, most frequent first."""
    rows = store.rows(
        "SELECT stage, failure, count(*) FROM failures"
        " GROUP BY stage, failure ORDER BY count(*) DESC, stage, failure"
    )
    return [FailureCount(*row) for row in rows]


def failed_samples(store: Store) -> dict[str, int]:
    """Return how many samples have failed, by the key of their cell."""
    query = (
        "SELECT cells.key, count(*) FROM failures"
        " JOIN cells ON cells.position = failures.position GROUP BY cells.key"
    )
    return {key: int(count) for key, count in store.rows(query)}


def spent(store: Store) -> dict[str, float]:
    """Return what the answers of the latest configuration took, summed by name."""
    rows = store.rows(
        "SELECT each.key, sum(each.value) FROM predictions"
        " JOIN cells ON cells.key = predictions.cell, json_each(predictions.usage) AS each"
        " WHERE cells.position IS NOT NULL GROUP BY each.key"
    )
    return {name: float(total) for name, total in rows}


def asked_images(store: Store) -> dict[str, int]:
    """Return the number of distinct images by task key."""
    query = "SELECT task, count(DISTINCT image) AS count FROM sample_images GROUP BY task"
    return {row["task"]: row["count"] for row in store.rows(query)}


_FORMATS = """
SELECT used.task_label, images.format, count(*)
FROM (
    SELECT DISTINCT tasks.task_label, sample_images.image
    FROM (SELECT DISTINCT task, task_label FROM cells WHERE position IS NOT NULL) AS tasks
    JOIN sample_images ON sample_images.task = tasks.task
) AS used
JOIN images ON images.sha256 = used.image
WHERE images.format IS NOT NULL
GROUP BY used.task_label, images.format
"""


def source_formats(store: Store) -> list[FormatCount]:
    """Return the source formats of each task."""
    rows = store.rows(_FORMATS)
    return [FormatCount(task, json.loads(text), count) for task, text, count in rows]


def shown_samples(store: Store, task: str, ids: Sequence[str] | None = None) -> list[ShownSample]:
    """Return the samples of a task in the order of the data: all, or those in *ids*."""
    query = "SELECT id, image, question, fields FROM shown_samples WHERE task = ?"
    values: tuple[str, ...] = (task,)
    if ids is not None:
        query += " AND id IN (SELECT value FROM json_each(?))"
        values = (task, json.dumps(list(ids)))
    return [ShownSample(*row) for row in store.rows(f"{query} ORDER BY position", values)]


def sample_images(
    store: Store, task: str, ids: Sequence[str]
) -> dict[str, list[tuple[str | None, bool]]]:
    """Return the images of some samples in order, and whether each is context.

    An image is None where the file could not be read.
    """
    found: dict[str, list[tuple[str | None, bool]]] = {}
    rows = store.rows(
        "SELECT sample, image, context FROM sample_images"
        " WHERE task = ? AND sample IN (SELECT value FROM json_each(?)) ORDER BY sample, position",
        (task, json.dumps(list(ids))),
    )
    for sample, image, context in rows:
        found.setdefault(sample, []).append((image, bool(context)))
    return found


def sample_topics(store: Store, task: str) -> list[SampleTopic]:
    """Return the topics of a task's samples, in the order of the data."""
    # Tasks call it a topic, or a category where they know no other.
    rows = store.rows(
        "SELECT id, image, coalesce(json_extract(fields, '$.topic'),"
        " json_extract(fields, '$.category')) FROM shown_samples WHERE task = ? ORDER BY position",
        (task,),
    )
    return [SampleTopic(sample, image, str(topic or "")) for sample, image, topic in rows]


def answers(store: Store, cell: str, ids: Sequence[str]) -> dict[str, GivenAnswer]:
    """Return the answers to some samples of a cell, by sample."""
    rows = store.rows(
        "SELECT sample, text, failure FROM predictions"
        " WHERE cell = ? AND sample IN (SELECT value FROM json_each(?))",
        (cell, json.dumps(list(ids))),
    )
    return {sample: GivenAnswer(text, failure) for sample, text, failure in rows}


def verdicts(store: Store, cell: str) -> list[StoredVerdict]:
    """Return the verdicts of a cell's samples that have one."""
    query = "SELECT sample, verdict FROM verdicts WHERE cell = ? AND verdict IS NOT NULL"
    return [StoredVerdict(*row) for row in store.rows(query, (cell,))]


def resampling(store: Store, cell: str) -> StoredResampling | None:
    """Return how the score of a cell is made of its samples; None where that is not known."""
    query = "SELECT aggregate, factor, sums FROM resamplings WHERE cell = ?"
    for aggregate, factor, sums in store.rows(query, (cell,)):
        return StoredResampling(aggregate, factor, json.loads(sums))
    return None


_ENCODED = """
SELECT DISTINCT samples.cluster, encodings.image, encodings.bytes, images.width, images.height
FROM samples
JOIN sample_images ON sample_images.task = samples.task AND sample_images.sample = samples.id
JOIN images ON images.sha256 = sample_images.image
JOIN encodings ON encodings.image = images.sha256
WHERE samples.task = ? AND encodings.codec = ? AND NOT sample_images.context
    AND images.failure IS NULL AND encodings.bytes IS NOT NULL
"""


def encoded_images(store: Store, task: str, codec: str) -> list[EncodedImage]:
    """Return the encoded images of each cluster of a task."""
    return [EncodedImage(*row) for row in store.rows(_ENCODED, (task, codec))]


_COSTS = """
SELECT encodings.codec, used.task, avg(encodings.bytes), max(encodings.bytes), timed.seconds
FROM (SELECT DISTINCT task, image FROM sample_images WHERE NOT context) AS used
JOIN encodings ON encodings.image = used.image
LEFT JOIN (
    SELECT part, sum(seconds) / sum(items) AS seconds FROM timings
    WHERE stage = 'encode' GROUP BY part
) AS timed ON timed.part = encodings.codec
WHERE encodings.bytes IS NOT NULL
GROUP BY encodings.codec, used.task
"""


def encoding_costs(store: Store) -> list[EncodingCost]:
    """Return what every codec costs on every task."""
    return [EncodingCost(*row) for row in store.rows(_COSTS)]


def made_of(store: Store, key: str) -> Mapping[str, Any]:
    """Return what a part (codec, VLM or task) is made of."""
    [row] = store.rows("SELECT description FROM parts WHERE key = ?", (key,))
    described: Mapping[str, Any] = json.loads(row["description"])
    return described


_MEANS = """
SELECT measured.codec, used.task, measured.metric,
       avg(CASE measured.metric WHEN 'psnr' THEN min(measured.value, ?) ELSE measured.value END)
FROM (SELECT DISTINCT task, image FROM sample_images WHERE NOT context) AS used
JOIN fidelity AS measured ON measured.image = used.image
WHERE measured.value IS NOT NULL
GROUP BY measured.codec, used.task, measured.metric
"""


def fidelities(store: Store, most_psnr: float) -> list[MeanFidelity]:
    """Return what was measured of each codec on each task.

    Args:
        store: of the run.
        most_psnr: what an identical image counts as.
    """
    query = "SELECT codec, task, metric, value FROM set_fidelity WHERE value IS NOT NULL"
    rows = [*store.rows(_MEANS, (most_psnr,)), *store.rows(query)]
    return [MeanFidelity(*row) for row in rows]
