"""The sample browser: pictures as the VLM saw them, with its answers and verdicts.

A report shows some images of each task, those first on which verdicts flipped.
Pictures are embedded as thumbnails within a budget of bytes and of time to decode
them; what is left out is said.  Nothing here can fail a report: a picture that cannot
be shown has the reason in its place.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from lossylens.codec import Codec, Level, bits_per_pixel
from lossylens.errors import DataError, LossylensError
from lossylens.failure import Failure
from lossylens.images import content_hash
from lossylens.loading import describe
from lossylens.pixels import decoded_image, source_image
from lossylens.plugins import Registry, load_registry
from lossylens.report.cells import CellResult
from lossylens.report.reading import RunReading
from lossylens.report.verdicts import TaskVerdicts
from lossylens.store import Store

#: Longest side of a thumbnail, in pixels, and quality of its WebP file.
SIDE, QUALITY = 256, 80

_DESCRIBED = {
    "codec": "SELECT description FROM parts JOIN cells ON cells.codec = parts.key"
    " WHERE cells.key = ?",
    "task": "SELECT description FROM parts JOIN cells ON cells.task = parts.key"
    " WHERE cells.key = ?",
}

#: ``src``, a data URI, with ``bpp`` where there is a bitstream; or ``why`` there is none.
Picture = dict[str, str | float]

T = TypeVar("T")

#: Questions that are shown of one image.
_QUESTIONS = 4


@dataclass(frozen=True)
class Budget:
    """What the pictures of all runs together may take.

    Attributes:
        images: of each task.
        size: bytes of all thumbnails.
        seconds: to read and decode them.
    """

    images: int = 24
    size: int = 6_000_000
    seconds: float = 30.0


@dataclass
class _Spent:
    budget: Budget
    size: int = 0
    start: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> str:
        """Why no more pictures are made, or ``""``."""
        if self.size >= self.budget.size:
            return f"left out: {self.budget.size / 1e6:g} MB of pictures are in this file already"
        if time.monotonic() - self.start > self.budget.seconds:
            return f"left out: the pictures took longer than {self.budget.seconds:g} s to decode"
        return ""


def browse(runs: Sequence[RunReading], budget: Budget | None = None) -> dict[str, Any]:
    """Return the browser's content as JSON can hold it.

    Returns:
        ``items``: a list of questions, each with run, task, text, answer, image and
        ``cells`` (model, codec, level, text, verdict, failure); ``pictures``, by
        ``"RUN HASH original"`` and ``"RUN HASH CODEC LEVEL"``; ``notes``.
    """
    spent = _Spent(budget or Budget())
    items: list[dict[str, Any]] = []
    pictures: dict[str, Picture] = {}
    notes: list[str] = []
    for run in runs:
        registry = load_registry(strict=False)
        with Store(run.folder, writable=False) as store:
            for task, judged in run.verdicts.items():
                chosen, flipped = choose(judged, _of_task(run, task), spent.budget.images)
                items += _items(store, run, task, judged, chosen)
                _show(store, registry, run, task, judged, chosen, pictures, spent)
                notes.append(
                    f"{run.results.name}, {task}: {len(set(judged.image[chosen].tolist()))} of"
                    f" {len(judged.images)} images; {flipped} of {len(judged.samples)} questions"
                    " have a verdict that compression flipped."
                )
    return {"items": items, "pictures": pictures, "notes": notes}


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
            before, after = base[cell.model], judged.verdicts[cell.key]
            flips += np.isfinite(before) & np.isfinite(after) & ((before >= 0.5) != (after >= 0.5))
    inside = judged.image >= 0
    of_image = np.bincount(
        judged.image[inside], weights=flips[inside], minlength=len(judged.images)
    )
    most = [int(place) for place in np.argsort(-of_image, kind="stable") if of_image[place]]
    wanted = most[: images - images // 4]
    wanted += [place for place in range(len(judged.images)) if place not in wanted]
    places: list[int] = []
    for image in wanted[:images]:
        asked = np.flatnonzero(judged.image == image)
        order = asked[np.argsort(-flips[asked], kind="stable")]
        places += order[:_QUESTIONS].tolist()
    return places, int((flips > 0).sum())


def _items(
    store: Store, run: RunReading, task: str, judged: TaskVerdicts, places: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the questions with the answers of all cells."""
    cells = _of_task(run, task)
    if not places or not cells:
        return []
    ids = [judged.samples[place] for place in places]
    wanted = json.dumps(ids)
    key = store.rows("SELECT task FROM cells WHERE key = ?", (cells[0].key,))[0]["task"]
    samples = {
        row["id"]: row
        for row in store.rows(
            "SELECT * FROM shown_samples WHERE task = ? AND id IN (SELECT value FROM json_each(?))",
            (key, wanted),
        )
    }
    answers = {
        cell.key: {
            row["sample"]: row
            for row in store.rows(
                "SELECT sample, text, failure FROM predictions"
                " WHERE cell = ? AND sample IN (SELECT value FROM json_each(?))",
                (cell.key, wanted),
            )
        }
        for cell in cells
    }
    return [
        {
            "run": run.results.name,
            "task": task,
            **_question(samples[sample]),
            "cells": [
                _answer(cell, answers[cell.key].get(sample), judged.verdicts[cell.key][place])
                for cell in cells
            ],
        }
        for sample, place in zip(ids, places, strict=True)
    ]


def _question(row: Any) -> dict[str, Any]:
    question, fields = json.loads(row["question"]), json.loads(row["fields"])
    options = "".join(f"\n{letter}. {text}" for letter, text in question["options"].items())
    return {
        "id": row["id"],
        "image": row["image"] or "",
        "text": question["text"] + options,
        "answer": str(fields.get("answer", "")),
    }


def _answer(cell: CellResult, row: Any, verdict: float) -> dict[str, Any]:
    return {
        "model": cell.model,
        "codec": cell.codec,
        "level": cell.level,
        "base": cell.uncompressed,
        "text": row["text"] if row else None,
        "failure": row["failure"] if row else "no prediction",
        "verdict": None if np.isnan(verdict) else round(float(verdict), 3),
    }


def _show(
    store: Store,
    registry: Registry,
    run: RunReading,
    task: str,
    judged: TaskVerdicts,
    places: Sequence[int],
    pictures: dict[str, Picture],
    spent: _Spent,
) -> None:
    """Add the pictures of the chosen images at every codec and level."""
    hashes = list(dict.fromkeys(judged.images[judged.image[place]] for place in places))
    cells, name = _of_task(run, task), run.results.name
    originals = _guarded(lambda: _originals(store, registry, cells[0], judged, places))
    for image in hashes:
        if isinstance(originals, Failure):
            pictures.setdefault(f"{name} {image} original", {"why": originals.reason})
        else:
            _add(pictures, f"{name} {image} original", partial(_original, originals, image), spent)
    codecs = {(cell.codec, cell.level): cell for cell in cells if not cell.uncompressed}
    decoders = {place: _Decoder(store, registry, cell) for place, cell in codecs.items()}
    for image in hashes:
        for (codec, level), decoder in decoders.items():
            _add(
                pictures,
                f"{name} {image} {codec} {level}",
                partial(decoder.picture, image),
                spent,
            )


def _original(thumbnails: Mapping[str, str], image: str) -> Picture:
    return {"src": thumbnails[image]}


def _add(
    pictures: dict[str, Picture], key: str, make: Callable[[], Picture], spent: _Spent
) -> None:
    if key in pictures:
        return
    over = spent.over
    if over:
        pictures[key] = {"why": over}
        return
    made = _guarded(make)
    if isinstance(made, Failure):
        pictures[key] = {"why": made.reason}
        return
    spent.size += len(str(made["src"]))
    pictures[key] = made


def _guarded(make: Callable[[], T]) -> T | Failure:
    """Return what *make* makes, or why it cannot: plugins, weights or data may be gone."""
    try:
        return make()
    except Exception as error:
        return Failure(" ".join(describe(error).split()))


def _originals(
    store: Store,
    registry: Registry,
    cell: CellResult,
    judged: TaskVerdicts,
    places: Sequence[int],
) -> dict[str, str]:
    """Return thumbnails of source images by hash, read from the task's data again."""
    described = _description(store, cell.key, "task")
    task = registry.build_task(described["name"], described["options"])
    wanted = {judged.samples[place]: judged.images[judged.image[place]] for place in places}
    found: dict[str, str] = {}
    left = set(wanted.values())
    for sample in task.samples():
        image = wanted.get(sample.id)
        if image in left:
            data = sample.images[0].read()
            if content_hash(data) != image:
                raise DataError("the task's data have changed since the run")
            found[image] = thumbnail(source_image(data, parity=False))
            left.discard(image)
            if not left:
                break
    return found


def _description(store: Store, cell: str, column: str) -> Mapping[str, Any]:
    rows = store.rows(_DESCRIBED[column], (cell,))
    described: Mapping[str, Any] = json.loads(rows[0]["description"])
    return described


class _Decoder:
    """One codec and level of a run."""

    def __init__(self, store: Store, registry: Registry, cell: CellResult) -> None:
        self._store, self._registry, self._cell = store, registry, cell
        self._described = _description(store, cell.key, "codec")
        self._codec: Codec | None = None
        self._failure = ""

    def picture(self, image: str) -> Picture:
        """Return the decoded image."""
        rows = self._store.rows(
            "SELECT encodings.bitstream, encodings.failure, images.width, images.height"
            " FROM encodings JOIN cells ON cells.codec = encodings.codec"
            " JOIN images ON images.sha256 = encodings.image"
            " WHERE cells.key = ? AND encodings.image = ?",
            (self._cell.key, image),
        )
        if not rows or rows[0]["bitstream"] is None:
            raise DataError(rows[0]["failure"] if rows else "it was not encoded")
        row = rows[0]
        bitstream = self._store.read_bitstream(row["bitstream"])
        size = (row["width"], row["height"])
        shown = thumbnail(decoded_image(self._built(), bitstream, size, parity=False))
        return {"src": shown, "bpp": round(bits_per_pixel(len(bitstream), *size), 4)}

    def _built(self) -> Codec:
        """Build the codec once; if that failed, it fails at once the next time."""
        if self._failure:
            raise DataError(self._failure)
        if self._codec is None:
            level = Level(self._described["level"], self._described["parameters"])
            options = self._described["options"]
            try:
                self._codec = self._registry.build_codec(self._described["name"], level, options)
            except LossylensError as error:
                self._failure = str(error)
                raise
        return self._codec


def thumbnail(image: Image.Image) -> str:
    """Return *image*, scaled down to :data:`SIDE`, as a data URI."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
