"""The sample browser: every question with the answers of all models, and pictures of some.

The page is one file, and what it shows lies beside it in pieces, scripts that the page loads when
they are needed: a page that was opened from disk may read nothing else.  A set is a task of
a run; by its number its folder has

``columns``: the place of each question's pictures and topic; the places for which pictures were
    tried to be made, and for which they were;
``verdicts-CELL``: one character for each question;
``rates-POINT``: bits per pixel of the pictures at a codec and level;
``questions-NUMBER``: :data:`PIECE` questions with all answers;
``pictures-PLACE``: of one place, each a picture or why there is none.

Pictures are those of some images of each task, those first on which verdicts flipped, within
the budget of :mod:`~lossylens_report.sample_pictures`.  Boxes that are asked for are drawn by
the page.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from lossylens.cells import CellResult
from lossylens.registry.plugins import load_registry
from lossylens.run.decoding import DecoderProcess
from lossylens.store import read_models
from lossylens.store.database import Store
from lossylens.store.read_models import ShownSample
from lossylens.store.records import Picture as StoredPicture
from lossylens.vlm import QuestionKind, parse_box
from numpy.typing import NDArray

from lossylens_report.reading import RunReading
from lossylens_report.sample_pictures import (
    Budget,
    Picture,
    PictureMaker,
    RebuiltRun,
    SampleView,
    Spent,
)
from lossylens_report.verdicts import TaskVerdicts

#: Folder of the pieces, beside the page.
FOLDER = "samples"

#: Questions in one piece.
PIECE = 200

#: Questions that are shown of one image.
_QUESTIONS = 4


@dataclass(frozen=True)
class _Set:
    """A task of a run.

    Attributes:
        views: what is shown of each sample, by id.
        chosen: the same of those that have pictures.
    """

    run: RunReading
    task: str
    store: Store
    judged: TaskVerdicts
    views: Mapping[str, SampleView]
    chosen: Mapping[str, SampleView]
    note: str

    @property
    def cells(self) -> list[CellResult]:
        return _of_task(self.run, self.task)

    @property
    def key(self) -> str:
        """Of the task in the store."""
        return self.store.cell(self.cells[0].key).task_key

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each view, by its key."""
        keys = dict.fromkeys(view.key for view in self.views.values())
        return {key: place for place, key in enumerate(keys)}

    @cached_property
    def pictures(self) -> Mapping[str, StoredPicture]:
        """All images of the run, by hash."""
        return self.store.pictures()

    @property
    def points(self) -> dict[tuple[str, str], CellResult]:
        """A cell of each codec and level."""
        return {(cell.codec, cell.level): cell for cell in self.cells if not cell.uncompressed}


def write_samples(
    runs: Sequence[RunReading], folder: Path, budget: Budget | None = None
) -> dict[str, Any]:
    """Write the pieces of the browser into *folder*, in place of what is there.

    Args:
        runs: whose questions are shown.
        folder: of the report.
        budget: of the pictures.

    Returns:
        What the page begins with, as JSON can hold it: ``sets``, ``notes``, and whether any
        question is ``pictured``.
    """
    fresh = folder / f"{FOLDER}.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    spent = Spent(budget or Budget())
    sets: list[dict[str, Any]] = []
    notes: list[str] = []
    for run in runs:
        # A decoder that crashes or hangs costs its picture, and not the report.
        decoder = DecoderProcess(spent.budget.seconds, psutil.virtual_memory().total // 2)
        with Store(run.folder, writable=False) as store, closing(decoder):
            found = [_set(run, task, store, spent.budget.images) for task in run.verdicts]
            pictures = _pictures(run, store, found, spent, decoder)
            for each in found:
                if each.views:
                    sets.append(_write_set(each, pictures, fresh / str(len(sets))))
                    notes.append(each.note)
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    if sets:
        fresh.replace(folder / FOLDER)
    return {"sets": sets, "notes": notes, "pictured": any(each["pictured"] for each in sets)}


def _set(run: RunReading, task: str, store: Store, images: int) -> _Set:
    judged, cells = run.verdicts[task], _of_task(run, task)
    chosen, flipped = choose(judged, cells, images)
    views = _views(store, cells, judged)
    shown = {judged.samples[place]: views[judged.samples[place]] for place in chosen if views}
    note = (
        f"{run.results.name}, {task}: pictures of {len(set(judged.image[chosen].tolist()))} of"
        f" {len(judged.images)} images; {flipped} of {len(judged.samples)} questions have a"
        " verdict that compression flipped."
    )
    return _Set(run, task, store, judged, views, shown, note)


def _pictures(
    run: RunReading, store: Store, sets: Sequence[_Set], spent: Spent, decoder: DecoderProcess
) -> dict[tuple[str, str], Picture]:
    built = RebuiltRun(store, load_registry(strict=False), run)
    pictures: dict[tuple[str, str], Picture] = {}
    makers = [
        PictureMaker(store, built, each.cells, each.chosen, pictures, spent, decoder)
        for each in sets
        if each.chosen
    ]
    # The originals of all tasks come before what takes long to decode.
    originals = [each.originals() for each in makers]
    for each, given in zip(makers, originals, strict=True):
        each.compressed(given)
    return pictures


def _write_set(
    of: _Set, pictures: Mapping[tuple[str, str], Picture], folder: Path
) -> dict[str, Any]:
    """Write the pieces of a set; return what the page must know at once."""
    folder.mkdir(parents=True)
    judged, places = of.judged, of.places
    topics = list(dict.fromkeys(judged.topics))
    known = {topic: number for number, topic in enumerate(topics)}
    decoded = {
        view for (view, name), each in pictures.items() if name != "original" and "src" in each
    }
    chosen = {places[view.key] for view in of.chosen.values()}
    pictured = {places[view] for view in decoded if places.get(view) in chosen}
    columns = {
        "view": [places[of.views[sample].key] for sample in judged.samples],
        "topic": [known[topic] for topic in judged.topics] if len(topics) > 1 else None,
        "chosen": sorted(chosen),
        "pictured": sorted(pictured),
    }
    _write(folder, "columns", columns)
    for number, cell in enumerate(of.cells):
        _write(folder, f"verdicts-{number}", _characters(judged.verdicts[cell.key]))
    for number, cell in enumerate(of.points.values()):
        _write(folder, f"rates-{number}", list(_rates(of, cell)))
    for number, start in enumerate(range(0, len(judged.samples), PIECE)):
        ids = judged.samples[start : start + PIECE]
        _write(folder, f"questions-{number}", list(_questions(of, ids)))
    by_view: dict[str, dict[str, Picture]] = {}
    for (view, name), picture in pictures.items():
        by_view.setdefault(view, {})[name] = picture
    for view, made in by_view.items():
        if places.get(view) in chosen:
            _write(folder, f"pictures-{places[view]}", made)
    points = list(of.points)
    return {
        "run": of.run.results.name,
        "task": of.task,
        "count": len(judged.samples),
        "pictured": bool(pictured),
        "piece": PIECE,
        "topics": topics if len(topics) > 1 else [],
        "cells": [
            {
                "model": cell.model,
                "codec": cell.codec,
                "level": cell.level,
                "base": cell.uncompressed,
                "point": None if cell.uncompressed else points.index((cell.codec, cell.level)),
            }
            for cell in of.cells
        ],
    }


def _write(folder: Path, name: str, value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    content = f'LOSSYLENS("{folder.name}/{name}",{text});\n'
    (folder / f"{name}.js").write_text(content, encoding="utf-8")


def _characters(verdicts: NDArray[np.float32]) -> str:
    """Return verdicts as text: ``-`` for none, else tenths, the character after 9 being 1."""
    tenths = np.rint(10 * np.clip(np.nan_to_num(verdicts), 0, 1))
    codes = np.where(np.isnan(verdicts), ord("-"), ord("0") + tenths)
    return codes.astype(np.uint8).tobytes().decode("ascii")


def _rates(of: _Set, cell: CellResult) -> Iterator[float | None]:
    """Yield the rate of each view at a codec and level: of all its images that are encoded."""
    encodings = of.store.encodings(of.store.cell(cell.key).codec_key)
    by_key = {view.key: view for view in of.views.values()}
    for key in of.places:
        bits, pixels = 0, 0
        for _, image, context in by_key[key].readable:
            encoding = encodings.get(image)
            if not context and encoding is not None and encoding.size is not None:
                width, height = of.pictures[image].size
                bits, pixels = bits + 8 * encoding.size, pixels + width * height
        yield round(bits / pixels, 4) if pixels else None


def _of_task(run: RunReading, task: str) -> list[CellResult]:
    return [cell for cell in run.results.cells if cell.task == task]


def choose(judged: TaskVerdicts, cells: Sequence[CellResult], images: int) -> tuple[list[int], int]:
    """Return the places of the questions to show, and how many have a flipped verdict.

    Images with most flips come first; a quarter of the images are the first ones of
    the data without regard to flips, so that what did not change is seen too.
    """
    flips = np.zeros(len(judged.samples), dtype=np.int64)
    base = {cell.model: judged.verdicts[cell.key] for cell in cells if cell.uncompressed}
    for cell in cells:
        if not cell.uncompressed and cell.model in base:
            flips += _flips(base[cell.model], judged.verdicts[cell.key])
    # What an adaptor turns, in either direction, is to be seen as well.
    plain = {(c.vlm, c.codec, c.level): judged.verdicts[c.key] for c in cells if not c.adaptor}
    turned = flips.copy()
    for cell in cells:
        place = (cell.vlm, cell.codec, cell.level)
        if cell.adaptor and place in plain:
            turned += _flips(plain[place], judged.verdicts[cell.key])
    inside = judged.image >= 0
    of_image = np.bincount(
        judged.image[inside], weights=turned[inside], minlength=len(judged.images)
    )
    most = [int(place) for place in np.argsort(-of_image, kind="stable") if of_image[place]]
    wanted = most[: images - images // 4]
    wanted += [place for place in range(len(judged.images)) if place not in wanted]
    places: list[int] = []
    for image in wanted[:images]:
        asked = np.flatnonzero(judged.image == image)
        order = asked[np.argsort(-turned[asked], kind="stable")]
        places += order[:_QUESTIONS].tolist()
    return places, int((flips > 0).sum())


def _flips(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where both have a verdict, and not the same."""
    return np.isfinite(before) & np.isfinite(after) & ((before >= 0.5) != (after >= 0.5))


def _views(
    store: Store, cells: Sequence[CellResult], judged: TaskVerdicts
) -> dict[str, SampleView]:
    """Return what is shown of all samples, by id."""
    if not cells or not judged.samples:
        return {}
    found = read_models.sample_images(store, store.cell(cells[0].key).task_key, judged.samples)
    return {sample: SampleView(tuple(found.get(sample, ()))) for sample in judged.samples}


def _questions(of: _Set, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield questions with the answers of all cells, of which most are alike.

    ``texts`` are the distinct answers, each a text or null and the reason of a failure, and
    ``given`` the place of each cell's among them.
    """
    samples = {each.id: each for each in read_models.shown_samples(of.store, of.key, ids)}
    answers = [read_models.answers(of.store, cell.key, ids) for cell in of.cells]
    for sample in ids:
        question = _question(samples[sample])
        texts: dict[tuple[str | None, str | None], int] = {}
        given = []
        for of_cell in answers:
            text, failure = of_cell.get(sample) or (None, "no prediction")
            given.append(texts.setdefault((text, failure), len(texts)))
        if question["box"]:
            question["boxes"] = [parse_box(text or "") for text, _ in texts]
        yield {**question, "texts": list(texts), "given": given}


def _question(sample: ShownSample) -> dict[str, Any]:
    question, fields = json.loads(sample.question), json.loads(sample.fields)
    options = "".join(f"\n{letter}. {text}" for letter, text in question["options"].items())
    answer = str(fields.get("answer", ""))
    return {
        "id": sample.id,
        "text": question["text"] + options,
        "answer": answer,
        "box": parse_box(answer) if question["kind"] == QuestionKind.BOX else None,
    }
