"""Reading the results of a run out of its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossylens.cells import UNCOMPRESSED, CellResult, Note, TaskData
from lossylens.errors import PluginError, StoreError
from lossylens.images import SourceFormat
from lossylens.registry.plugins import load_registry
from lossylens.store import read_models
from lossylens.store.database import Store
from lossylens.store.read_models import EncodingCost, GridCell, StoredScore
from lossylens.store.records import NO_ADAPTOR, Absence
from lossylens.task import Primary

from lossylens_report.film_rates import film_rates
from lossylens_report.gains import topic_gains
from lossylens_report.gap_split import read_split
from lossylens_report.maps import read_maps
from lossylens_report.measured_fidelity import read_fidelities
from lossylens_report.metrics.bootstrap import interval
from lossylens_report.replicates import Replicates, replicate
from lossylens_report.resized_rates import resized_rates
from lossylens_report.run_results import NotApplicable, SourceResults, Unfinished
from lossylens_report.verdicts import TaskVerdicts, read_verdicts


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
        latest = read_models.latest_run(store)
        if latest is None:
            raise StoreError(f"{folder} holds no run yet: start one with `lossylens run`")
        manifest = latest.manifest
        metrics = {label: Primary(**each) for label, each in manifest["metrics"].items()}
        rows = read_models.grid(store)
        scores = {row.key: row.score for row in rows if row.score and row.score.value is not None}
        scored = [row for row in rows if row.key in scores]
        unfinished = tuple(_unfinished(rows))
        sizes = _sizes(scored)
        fidelity = read_fidelities(store)
        asked = read_models.asked_images(store)
        # Runs of earlier versions did not record it.
        unseen = {tuple(place) for place in manifest.get("unseen", ())}
        cells = [
            dataclasses.replace(
                _cell(row, scores[row.key], metrics[row.task], sizes),
                fidelity=fidelity.get((row.codec_key, row.task_key), {}),
                # How many images an earlier start has asked about is not known any more.
                limited=None
                if _is_stale(row) or not scores[row.key].limited
                else asked[row.task_key],
                unseen=_place(row) in unseen,
                stale=_is_stale(row),
            )
            for row in scored
        ]
        verdicts = read_verdicts(store, scored)
        replicates = replicate(store, scored, cells, metrics)
        split = read_split(store, folder, metrics)
        results = SourceResults(
            name=folder.resolve().name,
            cells=tuple(_with_interval(cell, replicates.get(cell.key)) for cell in cells),
            data=_data(store, scored, manifest, asked),
            unscored=tuple(_label(row) for row in rows if row.score and row.score.value is None),
            unfinished=unfinished,
            not_applicable=tuple(
                NotApplicable(_model(each), each.codec, each.level, each.task, each.reason)
                for each in read_models.absences(store)
            ),
            planned=len(rows),
            state=_state(latest.outcome) if unfinished or not rows else "",
            earlier=read_models.count_earlier(store),
            failures=tuple(read_models.failures(store)),
            sources=tuple(_sources(store)),
            notes=(
                *_notes(cells, replicates),
                *_notes_of_parts(store, rows),
                *film_rates(store, scored),
                *resized_rates(store, scored),
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
            costs=_costs(store, scored),
            manifest={
                **manifest,
                "started": latest.started,
                "ended": latest.ended,
                "config": latest.config,
            },
        )
    # A codec that is asked to decode may change the working directory.
    return RunReading(results, folder.absolute(), replicates, verdicts)


def _is_stale(row: GridCell) -> bool:
    """Whether there are questions that the score does not know."""
    return row.answered < row.questions


def _unfinished(rows: Sequence[GridCell]) -> Iterator[Unfinished]:
    """Yield the cells without a score, and those with answers that it does not know."""
    for row in rows:
        if row.score and not _is_stale(row):
            continue
        labels = (_model(row), row.codec, row.level, row.task)
        yield Unfinished(*labels, row.answered, row.questions, scored=bool(row.score))


def _state(outcome: str | None) -> str:
    """Return what a run does or did in words, ``""`` for one that came to its end."""
    words = {
        None: "is in progress, or was killed",
        "interrupted": "was interrupted",
        "error": "ended with an error",
    }
    return words.get(outcome, "")


def _model(row: GridCell | Absence) -> str:
    return row.vlm if row.adaptor == NO_ADAPTOR else f"{row.vlm} + {row.adaptor}"


def _costs(store: Store, rows: Sequence[GridCell]) -> dict[str, EncodingCost]:
    costs = {(each.codec, each.task): each for each in read_models.encoding_costs(store)}
    found = {row.key: costs.get((row.codec_key, row.task_key)) for row in rows}
    return {key: cost for key, cost in found.items() if cost}


def _parts(rows: Sequence[GridCell]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    found: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in rows:
        found.setdefault(("VLM", _model(row)), row.vlm_made_of)
        found.setdefault(("codec", row.codec, row.level), row.codec_made_of)
    return found


def _place(row: GridCell) -> tuple[str, ...]:
    return (row.vlm, row.adaptor, row.codec, row.level)


def _label(row: GridCell) -> str:
    return f"{_model(row)}, {row.codec} {row.level}, {row.task}"


def _cell(
    row: GridCell, score: StoredScore, metric: Primary, sizes: Mapping[str, float | None]
) -> CellResult:
    return CellResult(
        vlm=row.vlm,
        adaptor="" if row.adaptor == NO_ADAPTOR else row.adaptor,
        codec=row.codec,
        level=row.level,
        task=row.task,
        uncompressed=row.codec_made_of["name"] == UNCOMPRESSED,
        metric=metric.name,
        value=metric.shown(_or_nan(score.value)),
        higher_is_better=metric.higher_is_better,
        bpp=_or_nan(score.rate),
        bpp_total=_or_nan(score.total_rate),
        parameters=sizes[row.vlm_key],
        images=score.images,
        samples=score.samples,
        failed=score.failed,
        missing=score.missing,
        unextracted=score.unextracted,
        metrics=score.metrics,
        key=row.key,
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _sizes(rows: Sequence[GridCell]) -> dict[str, float | None]:
    """Return the size of each VLM by key, in millions of parameters; None if not installed."""
    registry = load_registry(strict=False)
    sizes: dict[str, float | None] = {}
    for row in rows:
        if row.vlm_key not in sizes:
            try:
                spec = registry.find("vlm", row.vlm_made_of["name"]).spec
            except PluginError:
                sizes[row.vlm_key] = None
            else:
                sizes[row.vlm_key] = spec.parameters
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


def _notes_of_parts(store: Store, rows: Sequence[GridCell]) -> Iterator[Note]:
    """Yield what the run has noticed about codecs and models."""
    tasks = frozenset(row.task for row in rows)
    names = {row.codec_key: f"codec {row.codec} at {row.level}" for row in rows}
    names |= {row.vlm_key: f"VLM {_model(row)}" for row in rows}
    for part, text in store.notes():
        if part in names:
            yield Note(f"{names[part]}: {text}.", tasks)


def _data(
    store: Store, rows: Sequence[GridCell], manifest: Mapping[str, Any], asked: Mapping[str, int]
) -> dict[str, TaskData]:
    """Return what tells the data of each task apart from that of another run.

    Args:
        store: of the run.
        rows: of its grid.
        manifest: of its latest start.
        asked: distinct images by task key.
    """
    found = {}
    for row in rows:
        if row.task not in found:
            found[row.task] = _task_data(
                store, row.task_key, manifest, row.task, asked.get(row.task_key, 0)
            )
    return found


def _task_data(
    store: Store, key: str, manifest: Mapping[str, Any], label: str, images: int
) -> TaskData:
    known = manifest["data"].get(label, {})
    digest = hashlib.sha256(str(known.get("judge", "")).encode())
    count = 0
    for each in read_models.shown_samples(store, key):
        row = [each.id, each.image, each.question, each.fields]
        digest.update(json.dumps(row).encode())
        count += 1
    identities = {digest.hexdigest()}
    if known.get("published") == "yes" and manifest.get("limit") is None:
        identities.add(f"reference {manifest['parts'][key]['name']}")
    file = Path(known["file"]).name if "file" in known else known.get("generator", "")
    source = f" of {file}" if file else ""
    return TaskData(
        frozenset(identities),
        f"{count} questions on {images} images{source}, hash {digest.hexdigest()[:12]}",
    )


def _sources(store: Store) -> Iterator[tuple[str, str, int]]:
    """Yield task, source format in words and number of images, most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for task, form, count in read_models.source_formats(store):
        counts[task, str(SourceFormat(**form))] += count
    for (task, words), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
        yield task, words, count
