"""The sample browser: pictures as the VLM saw them, with its answers and verdicts.

A report shows some images of each task, those first on which verdicts flipped.
Pictures are embedded within a budget of bytes and of time to decode them; what is left
out is said.  They are the pixels that the model was given, whole where they are few
enough, else scaled down, and marked so; several that one question is about are on one sheet.
Boxes that are asked for are drawn by the page.  Nothing here can fail a report: a picture that
cannot be shown has the reason in its place.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import psutil
from lossylens.cells import CellResult
from lossylens.codec import Level, Square
from lossylens.errors import DataError, LossylensError, PluginError, describe
from lossylens.failure import Failure
from lossylens.images import content_hash
from lossylens.images.pixels import source_image
from lossylens.registry import building
from lossylens.registry.plugins import Registry, load_registry
from lossylens.run.decoding import Bitstream, DecodeJob, DecoderProcess
from lossylens.run.jobs import CodecRecipe
from lossylens.store import read_models
from lossylens.store.database import Store
from lossylens.store.read_models import ShownSample, made_of
from lossylens.store.records import Picture as StoredPicture
from lossylens.task import Task
from lossylens.vlm import QuestionKind, parse_box
from numpy.typing import NDArray
from PIL import Image

from lossylens_report.reading import RunReading
from lossylens_report.sheets import WIDTH, sheet
from lossylens_report.verdicts import TaskVerdicts

#: Longest side of a picture on the page, in pixels, and the quality of its WebP file where
#: it is not kept whole.
SIDE, QUALITY = 256, 80

#: ``src``, a data URI, ``exact`` where it has the model's very pixels, and ``bpp`` where
#: there is a bitstream; or ``why`` there is none.
Picture = dict[str, str | float]

T = TypeVar("T")

#: Questions that are shown of one image.
_QUESTIONS = 4


@dataclass(frozen=True)
class Budget:
    """What the pictures of all runs together may take.

    Attributes:
        images: of each task.
        size: bytes of all pictures.
        seconds: to read and decode them.
    """

    images: int = 24
    size: int = 12_000_000
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

    @property
    def exact(self) -> bool:
        """Whether there is room for pictures as they are."""
        return self.size < self.budget.size / 2


def browse(runs: Sequence[RunReading], budget: Budget | None = None) -> dict[str, Any]:
    """Return the browser's content as JSON can hold it.

    Returns:
        ``items``: a list of questions, each with run, task, text, answer, image and
        ``cells`` (model, codec, level, text, verdict, failure), and where a box is asked for
        the ``box`` of the answer and of each cell; ``pictures``, by ``"RUN IMAGE original"``
        and ``"RUN IMAGE CODEC LEVEL"``; ``notes``.
    """
    spent = _Spent(budget or Budget())
    items: list[dict[str, Any]] = []
    pictures: dict[str, Picture] = {}
    notes: list[str] = []
    for run in runs:
        registry = load_registry(strict=False)
        # A decoder that crashes or hangs costs its picture, and not the report.
        decoder = DecoderProcess(spent.budget.seconds, psutil.virtual_memory().total // 2)
        with Store(run.folder, writable=False) as store, closing(decoder):
            shown: list[_Showing] = []
            for task, judged in run.verdicts.items():
                chosen, flipped = choose(judged, _of_task(run, task), spent.budget.images)
                views = _views(store, run, task, judged, chosen)
                items += _items(store, run, task, judged, chosen, views)
                notes.append(
                    f"{run.results.name}, {task}: {len(set(judged.image[chosen].tolist()))} of"
                    f" {len(judged.images)} images; {flipped} of {len(judged.samples)} questions"
                    " have a verdict that compression flipped."
                )
                if views:
                    built = _Built(store, registry, run)
                    cells = _of_task(run, task)
                    shown.append(_Showing(store, built, cells, views, pictures, spent, decoder))
            # The originals of all tasks come before what takes long to decode.
            originals = [each.originals() for each in shown]
            for each, given in zip(shown, originals, strict=True):
                each.compressed(given)
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


@dataclass(frozen=True)
class _View:
    """The images of a sample: hashes, and whether each is context; None for one without a file."""

    images: tuple[tuple[str | None, bool], ...]

    @property
    def readable(self) -> list[tuple[int, str, bool]]:
        """Number, hash and whether it is context, of those that have a file."""
        found = enumerate(self.images, 1)
        return [(number, image, context) for number, (image, context) in found if image]

    @property
    def key(self) -> str:
        """The hash of the only image, or one of all."""
        hashes = [image for _, image, _ in self.readable]
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256(repr(self.images).encode()).hexdigest()


def _views(
    store: Store, run: RunReading, task: str, judged: TaskVerdicts, places: Sequence[int]
) -> dict[str, _View]:
    """Return what is shown of the chosen samples, by id."""
    cells = _of_task(run, task)
    if not places or not cells:
        return {}
    ids = [judged.samples[place] for place in places]
    found = read_models.sample_images(store, store.cell(cells[0].key).task_key, ids)
    return {sample: _View(tuple(found[sample])) for sample in ids}


def _items(
    store: Store,
    run: RunReading,
    task: str,
    judged: TaskVerdicts,
    places: Sequence[int],
    views: Mapping[str, _View],
) -> list[dict[str, Any]]:
    """Return the questions with the answers of all cells."""
    cells = _of_task(run, task)
    if not views:
        return []
    ids = [judged.samples[place] for place in places]
    key = store.cell(cells[0].key).task_key
    samples = {each.id: each for each in read_models.shown_samples(store, key, ids)}
    answers = {cell.key: read_models.answers(store, cell.key, ids) for cell in cells}
    items = []
    for sample, place in zip(ids, places, strict=True):
        question = _question(samples[sample])
        found = [
            _answer(cell, answers[cell.key].get(sample), judged.verdicts[cell.key][place])
            for cell in cells
        ]
        if question["box"]:
            for each in found:
                each["box"] = parse_box(each["text"] or "")
        shown = {"run": run.results.name, "task": task, "image": views[sample].key}
        items.append({**shown, **question, "cells": found})
    return items


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


def _answer(
    cell: CellResult, answer: tuple[str | None, str | None] | None, verdict: float
) -> dict[str, Any]:
    text, failure = answer or (None, "no prediction")
    return {
        "model": cell.model,
        "codec": cell.codec,
        "level": cell.level,
        "base": cell.uncompressed,
        "text": text,
        "failure": failure,
        "verdict": None if np.isnan(verdict) else round(float(verdict), 3),
    }


@dataclass(frozen=True)
class _Showing:
    """Adds the pictures of the chosen samples of a task."""

    store: Store
    built: _Built
    cells: Sequence[CellResult]
    views: Mapping[str, _View]
    pictures: dict[str, Picture]
    spent: _Spent
    decoder: DecoderProcess

    @property
    def _parity(self) -> bool:
        return bool(self.built.run.results.manifest.get("evaluator_parity"))

    @property
    def _distinct(self) -> list[_View]:
        return list({view.key: view for view in self.views.values()}.values())

    def originals(self) -> Mapping[str, Image.Image] | Failure:
        """Add uncompressed pictures; return the images by hash, or why there are none."""
        found = _guarded(lambda: _originals(self.built, self.cells[0], self.views, self._parity))
        for view in self._distinct:
            self._add(view, "original", partial(_original, found, view))
        return found

    def compressed(self, originals: Mapping[str, Image.Image] | Failure) -> None:
        """Add the pictures of every codec and level."""
        codecs = {(cell.codec, cell.level): cell for cell in self.cells if not cell.uncompressed}
        points = {
            f"{codec} {level}": _Point(self.store, self.built, cell, self._parity, self.decoder)
            for (codec, level), cell in codecs.items()
        }
        for view in self._distinct:
            for name, point in points.items():
                self._add(view, name, partial(_compressed, point, originals, view))

    def _add(self, view: _View, name: str, make: Callable[[], tuple[Image.Image, Picture]]) -> None:
        key = f"{self.built.run.results.name} {view.key} {name}"
        if key in self.pictures:
            return
        over = self.spent.over
        if over:
            self.pictures[key] = {"why": over}
            return
        made = _guarded(make)
        if isinstance(made, Failure):
            self.pictures[key] = {"why": made.reason}
            return
        image, more = made
        alone = len(view.readable) == 1
        side = SIDE if alone else max(image.size)
        picture = embedded(image, exact=self.spent.exact and alone, side=side)
        self.pictures[key] = {**picture, **more}
        self.spent.size += len(str(picture["src"]))


def _original(
    originals: Mapping[str, Image.Image] | Failure, view: _View
) -> tuple[Image.Image, Picture]:
    if isinstance(originals, Failure):
        raise DataError(originals.reason)
    return _shown([(number, originals[image]) for number, image, _ in view.readable]), {}


def _compressed(
    point: _Point, originals: Mapping[str, Image.Image] | Failure, view: _View
) -> tuple[Image.Image, Picture]:
    """Return the images as the model was given them: context as it is."""
    shown, bits, pixels = [], 0.0, 0
    for number, image, context in view.readable:
        if context:
            if isinstance(originals, Failure):
                raise DataError(originals.reason)
            shown.append((number, originals[image]))
            continue
        picture, size = point.picture(image)
        shown.append((number, picture))
        bits += 8 * size
        pixels += picture.width * picture.height
    return _shown(shown), {"bpp": round(bits / pixels, 4)} if pixels else {}


def _shown(images: Sequence[tuple[int, Image.Image]]) -> Image.Image:
    return images[0][1] if len(images) == 1 else sheet(images)


def _guarded(make: Callable[[], T]) -> T | Failure:
    """Return what *make* makes, or why it cannot: plugins, weights or data may be gone."""
    try:
        return make()
    except (Exception, SystemExit) as error:
        return Failure(" ".join(describe(error).split()))


@dataclass(frozen=True)
class _Built:
    """Builds the parts of a run again, with the options that they had."""

    store: Store
    registry: Registry
    run: RunReading

    @cached_property
    def pictures(self) -> Mapping[str, StoredPicture]:
        return self.store.pictures()

    def task(self, cell: CellResult) -> Task:
        described = made_of(self.store, self.store.cell(cell.key).task_key)
        options = self._options(described, "task", cell.task)
        return self.registry.build_task(described["name"], options)

    def codec(self, cell: CellResult) -> CodecRecipe:
        described = made_of(self.store, self.store.cell(cell.key).codec_key)
        found = self.registry.find("codec", described["name"])
        options = self.registry.options(found, self._options(described, "codec", cell.codec))
        building.check_requirements(found, options)
        return CodecRecipe(
            # All codecs of the report are kept side by side.
            where="report",
            name=found.spec.name,
            key=f"{cell.codec} {cell.level}",
            factory=found.spec.factory,
            level=Level(described["level"], described["parameters"]),
            options=options,
            square=_square(described.get("square")),
        )

    def _options(self, described: Mapping[str, Any], kind: str, label: str) -> dict[str, Any]:
        """Return the options that decide results, and those that the configuration gave besides."""
        known = {
            each.name for each in fields(self.registry.find(kind, described["name"]).spec.options)
        }
        entries = self.run.results.manifest["config"].get(f"{kind}s") or {}
        for key, entry in entries.items():
            given = dict(entry or {})
            if label == (key if given.get("plugin") else self._canonical(kind, key)):
                given = {name: value for name, value in given.items() if name in known}
                return {**given, **described["options"]}
        return dict(described["options"])

    def _canonical(self, kind: str, name: str) -> str:
        try:
            return self.registry.find(kind, name).spec.name
        except PluginError:  # of another entry, whose plugin is no longer installed
            return name


def _square(described: Mapping[str, Any] | None) -> Square | None:
    return Square(**{**described, "border": tuple(described["border"])}) if described else None


def _originals(
    built: _Built, cell: CellResult, views: Mapping[str, _View], parity: bool
) -> dict[str, Image.Image]:
    """Return uncompressed images by hash, read from the task's data again.

    Those that are shown on sheets alone are as large as they need be there.
    """
    task = built.task(cell)
    whole = {view.key for view in views.values() if len(view.readable) == 1}
    found: dict[str, Image.Image] = {}
    left = {image for view in views.values() for _, image, _ in view.readable}
    for sample in task.samples():
        if sample.id not in views:
            continue
        for number, image, _ in views[sample.id].readable:
            if image not in left:
                continue
            data = sample.images[number - 1].read()
            if content_hash(data) != image:
                raise DataError("the task's data have changed since the run")
            found[image] = source_image(data, parity=parity)
            if image not in whole:
                found[image].thumbnail((WIDTH, WIDTH))
            left.discard(image)
        if not left:
            break
    return found


class _Point:
    """One codec and level of a run."""

    def __init__(
        self, store: Store, built: _Built, cell: CellResult, parity: bool, decoder: DecoderProcess
    ) -> None:
        self._store, self._built, self._cell = store, built, cell
        self._parity, self._decoder = parity, decoder
        self._encodings = store.encodings(store.cell(cell.key).codec_key)
        self._codec: CodecRecipe | None = None
        self._failure = ""

    def picture(self, image: str) -> tuple[Image.Image, int]:
        """Return the image as the model was given it, and the bytes of its bitstream."""
        encoding = self._encodings.get(image)
        if encoding is None or encoding.bitstream is None or encoding.size is None:
            raise DataError(encoding.failure or "" if encoding else "it was not encoded")
        size = self._built.pictures[image].size
        job = DecodeJob(
            StoredPicture(image, 0, *size),
            self._ready(),
            Bitstream(encoding.bitstream, self._store.folder),
            self._parity,
        )
        [decoded] = self._decoder.decode([job])
        shown = None if isinstance(decoded, Failure) else decoded.image()
        if isinstance(decoded, Failure) or shown is None:
            raise DataError(decoded.reason if isinstance(decoded, Failure) else "no picture")
        return shown, encoding.size

    def _ready(self) -> CodecRecipe:
        """Return the codec's recipe; if it cannot be built, that fails at once the next time."""
        if self._failure:
            raise DataError(self._failure)
        if self._codec is None:
            try:
                self._codec = self._built.codec(self._cell)
            except LossylensError as error:
                self._failure = str(error)
                raise
        return self._codec


def embedded(image: Image.Image, *, exact: bool, side: int = SIDE) -> Picture:
    """Return *image* as a data URI.

    Args:
        image: RGB.
        exact: keep every pixel, unless the image is larger than *side*.
        side: the longest that a side may be.
    """
    exact = exact and max(image.size) <= side
    small = image.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "WEBP", lossless=exact, exact=exact, quality=QUALITY)
    source = f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return {"src": source, **({"exact": True} if exact else {})}
