"""Reading the results of a run out of its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Row
from typing import Any

from lossylens.cells import UNCOMPRESSED, CellResult, Note, TaskData
from lossylens.errors import PluginError, StoreError
from lossylens.images import SourceFormat
from lossylens.registry.plugins import load_registry
from lossylens.store.database import Store
from lossylens.store.records import NO_ADAPTOR
from lossylens.task import Primary

from lossylens_report.gains import topic_gains
from lossylens_report.gap_split import read_split
from lossylens_report.maps import read_maps
from lossylens_report.measured_fidelity import read_fidelities
from lossylens_report.metrics.bootstrap import interval
from lossylens_report.replicates import Replicates, replicate
from lossylens_report.run_results import NotApplicable, SourceResults, Unfinished
from lossylens_report.verdicts import TaskVerdicts, read_verdicts

_CELLS = """
SELECT cells.*, codecs.description AS codec_description, vlms.description AS vlm_description,
       scores.*, scores.cell IS NOT NULL AS scored
FROM cells
JOIN parts AS codecs ON codecs.key = cells.codec
JOIN parts AS vlms ON vlms.key = cells.vlm
LEFT JOIN scores ON scores.cell = cells.key
WHERE cells.position IS NOT NULL
ORDER BY cells.position
"""

_ASKED_IMAGES = "SELECT task, count(DISTINCT image) AS count FROM sample_images GROUP BY task"

_SOURCES = """
SELECT used.task_label, images.format, count(*) AS count
FROM (
    SELECT DISTINCT tasks.task_label, sample_images.image
    FROM (SELECT DISTINCT task, task_label FROM cells WHERE position IS NOT NULL) AS tasks
    JOIN sample_images ON sample_images.task = tasks.task
) AS used
JOIN images ON images.sha256 = used.image
WHERE images.format IS NOT NULL
GROUP BY used.task_label, images.format
"""

_PROGRESS = """
SELECT cells.key, asked.count AS questions, coalesce(done.count, 0) AS answered
FROM cells
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
"""

# Cells that were begun: a start that was killed at once leaves others.
_EARLIER = """
SELECT count(*) FROM cells
WHERE position IS NULL AND EXISTS (SELECT * FROM predictions WHERE predictions.cell = cells.key)
"""

_FAILURES = """
SELECT stage, failure, count(*) AS count FROM failures
GROUP BY stage, failure ORDER BY count(*) DESC, stage, failure
"""


@dataclass(frozen=True)
class RunReading:
    """A run as its report needs it.

    Attributes:
        results: scored cells and what is known about them.
        folder: the run folder.
        replicates: bootstrap replicates of score and rate, by cell key; a cell whose
            score cannot be resampled has none.
        verdicts: by task label.
    """

    results: SourceResults
    folder: Path
    replicates: Mapping[str, Replicates]
    verdicts: Mapping[str, TaskVerdicts]


def read_run(folder: Path) -> RunReading:
    """Return the results of the latest configuration of the run in *folder*.

    Raises:
        StoreError: it is no run folder, or no run was ever started in it.
    """
    with Store(folder, writable=False) as store:
        runs = store.rows("SELECT * FROM runs ORDER BY id DESC LIMIT 1")
        if not runs:
            raise StoreError(f"{folder} holds no run yet: start one with `lossylens run`")
        manifest = json.loads(runs[0]["manifest"])
        metrics = {label: Primary(**each) for label, each in manifest["metrics"].items()}
        rows = store.rows(_CELLS)
        scored = [row for row in rows if row["value"] is not None]
        unfinished = tuple(_unfinished(store, rows))
        sizes = _sizes(scored)
        fidelity = read_fidelities(store)
        asked = {row["task"]: row["count"] for row in store.rows(_ASKED_IMAGES)}
        # Runs of earlier versions did not record it.
        unseen = {tuple(place) for place in manifest.get("unseen", ())}
        cells = [
            dataclasses.replace(
                _cell(row, metrics[row["task_label"]], sizes),
                fidelity=fidelity.get((row["codec"], row["task"]), {}),
                limited=asked[row["task"]] if row["limited"] else None,
                unseen=_place(row) in unseen,
            )
            for row in scored
        ]
        verdicts = read_verdicts(store, scored)
        replicates = replicate(store, scored, cells, metrics)
        split = read_split(store, folder, metrics)
        results = SourceResults(
            name=folder.resolve().name,
            cells=tuple(_with_interval(cell, replicates.get(cell.key)) for cell in cells),
            data=_data(store, scored, manifest),
            unscored=tuple(_label(row) for row in rows if row["scored"] and row["value"] is None),
            unfinished=unfinished,
            not_applicable=tuple(
                NotApplicable(
                    _model(row), row["codec_label"], row["level"], row["task_label"], row["reason"]
                )
                for row in store.rows("SELECT * FROM absences ORDER BY position")
            ),
            planned=len(rows),
            state=_state(runs[0]["outcome"]) if unfinished or not rows else "",
            earlier=store.rows(_EARLIER)[0][0],
            failures=tuple(
                (row["stage"], row["failure"], row["count"]) for row in store.rows(_FAILURES)
            ),
            sources=tuple(_sources(store)),
            notes=(
                *_notes(cells, replicates),
                *_notes_of_parts(store, rows),
                *(
                    Note(f"left out of the gap split: {text}.", frozenset({"gaps"}))
                    for text in (split.left_out if split else ())
                ),
            ),
            parts=_parts(scored),
            topics=tuple(
                gain
                for task, judged in verdicts.items()
                for gain in topic_gains([cell for cell in cells if cell.task == task], judged)
            ),
            maps=read_maps(folder),
            split=split,
            manifest={
                **manifest,
                "started": runs[0]["started"],
                "ended": runs[0]["ended"],
                "config": json.loads(runs[0]["config"]),
            },
        )
    # A codec that is asked to decode may change the working directory.
    return RunReading(results, folder.absolute(), replicates, verdicts)


def _unfinished(store: Store, rows: list[Row]) -> Iterator[Unfinished]:
    """Yield the cells without a score, and those with answers that it does not know."""
    progress = {row["key"]: row for row in store.rows(_PROGRESS)}
    for row in rows:
        of_cell = progress[row["key"]]
        answered, questions = of_cell["answered"], of_cell["questions"] or 0
        if row["scored"] and answered >= questions:
            continue
        labels = (_model(row), row["codec_label"], row["level"], row["task_label"])
        yield Unfinished(*labels, answered, questions, scored=bool(row["scored"]))


def _state(outcome: str | None) -> str:
    """Return what a run does or did in words, ``""`` for one that came to its end."""
    words = {
        None: "is in progress, or was killed",
        "interrupted": "was interrupted",
        "error": "ended with an error",
    }
    return words.get(outcome, "")


def _model(row: Row) -> str:
    adaptor = row["adaptor_label"]
    return str(row["vlm_label"]) if adaptor == NO_ADAPTOR else f"{row['vlm_label']} + {adaptor}"


def _parts(rows: list[Row]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    found: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in rows:
        for key, column in (
            (("VLM", _model(row)), "vlm_description"),
            (("codec", row["codec_label"], row["level"]), "codec_description"),
        ):
            if key not in found:
                found[key] = json.loads(row[column])
    return found


def _place(row: Row) -> tuple[str, ...]:
    return (row["vlm_label"], row["adaptor_label"], row["codec_label"], row["level"])


def _label(row: Row) -> str:
    return f"{_model(row)}, {row['codec_label']} {row['level']}, {row['task_label']}"


def _cell(row: Row, metric: Primary, sizes: Mapping[str, float | None]) -> CellResult:
    adaptor = row["adaptor_label"]
    return CellResult(
        vlm=row["vlm_label"],
        adaptor="" if adaptor == NO_ADAPTOR else adaptor,
        codec=row["codec_label"],
        level=row["level"],
        task=row["task_label"],
        uncompressed=json.loads(row["codec_description"])["name"] == UNCOMPRESSED,
        metric=metric.name,
        value=metric.shown(row["value"]),
        higher_is_better=metric.higher_is_better,
        bpp=_or_nan(row["bpp_mean"]),
        bpp_total=_or_nan(row["bpp_total"]),
        parameters=sizes[row["vlm"]],
        images=row["images"],
        samples=row["samples"],
        failed=row["failed"],
        missing=row["missing"],
        unextracted=row["unextracted"],
        metrics=json.loads(row["metrics"]),
        key=row["key"],
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _sizes(rows: list[Row]) -> dict[str, float | None]:
    """Return the size of each VLM by key, in millions of parameters; None if not installed."""
    registry = load_registry(strict=False)
    sizes: dict[str, float | None] = {}
    for row in rows:
        if row["vlm"] not in sizes:
            try:
                spec = registry.find("vlm", json.loads(row["vlm_description"])["name"]).spec
            except PluginError:
                sizes[row["vlm"]] = None
            else:
                sizes[row["vlm"]] = spec.parameters
    return sizes


def _with_interval(cell: CellResult, replicates: Replicates | None) -> CellResult:
    if replicates is None:
        return cell
    return dataclasses.replace(cell, interval=interval(replicates.scores))


def _notes(cells: list[CellResult], replicates: Mapping[str, Replicates]) -> Iterator[Note]:
    for task in dict.fromkeys(cell.task for cell in cells):
        of_task = [cell for cell in cells if cell.task == task]
        limits = {cell.limited for cell in of_task if cell.limited is not None}
        if limits:
            yield Note(
                f"{task}: limited to {max(limits)} images (run.limit); these are no scores of the"
                " whole task.",
                frozenset({task}),
            )
        without = sum(cell.key not in replicates for cell in of_task)
        if without:
            yield Note(
                f"{task}: {without} of {len(of_task)} scores have no confidence interval, since"
                f" the task does not say how {of_task[0].metric} is made of its samples, or has"
                " too few of them to be drawn anew.",
                frozenset({task}),
            )


def _notes_of_parts(store: Store, rows: list[Row]) -> Iterator[Note]:
    """Yield what the run has noticed about codecs and models."""
    tasks = frozenset(row["task_label"] for row in rows)
    names = {row["codec"]: f"codec {row['codec_label']} at {row['level']}" for row in rows}
    names |= {row["vlm"]: f"VLM {_model(row)}" for row in rows}
    for part, text in store.notes():
        if part in names:
            yield Note(f"{names[part]}: {text}.", tasks)


def _data(store: Store, rows: list[Row], manifest: Mapping[str, Any]) -> dict[str, TaskData]:
    """Return what tells the data of each task apart from that of another run."""
    found = {}
    for row in rows:
        label = row["task_label"]
        if label not in found:
            found[label] = _task_data(store, row["task"], manifest, label)
    return found


def _task_data(store: Store, key: str, manifest: Mapping[str, Any], label: str) -> TaskData:
    known = manifest["data"].get(label, {})
    digest = hashlib.sha256(str(known.get("judge", "")).encode())
    count, images = 0, set()
    query = "SELECT id, image, question, fields FROM shown_samples WHERE task = ? ORDER BY position"
    for row in store.rows(query, (key,)):
        digest.update(json.dumps(list(row)).encode())
        images.add(row["image"])
        count += 1
    identities = {digest.hexdigest()}
    if known.get("published") == "yes" and manifest.get("limit") is None:
        identities.add(f"reference {manifest['parts'][key]['name']}")
    file = Path(known["file"]).name if "file" in known else known.get("generator", "")
    source = f" of {file}" if file else ""
    return TaskData(
        frozenset(identities),
        f"{count} questions on {len(images)} images{source}, hash {digest.hexdigest()[:12]}",
    )


def _sources(store: Store) -> Iterator[tuple[str, str, int]]:
    """Yield task, source format in words and number of images, most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in store.rows(_SOURCES):
        words = str(SourceFormat(**json.loads(row["format"])))
        counts[row["task_label"], words] += row["count"]
    for (task, words), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
        yield task, words, count
