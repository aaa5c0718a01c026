"""The pictures of the sample browser, as the VLM saw them.

They are embedded within a budget of bytes and of time to decode them; what is left out is
said.  They are the pixels that the model was given, whole where they are few enough, else
scaled down, and marked so; several that one question is about are on one sheet.  Nothing here
can fail a report: a picture that cannot be shown has the reason in its place.
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import Any, TypeVar

from lossylens.cells import CellResult
from lossylens.codec import Level, Square
from lossylens.errors import DataError, LossylensError, PluginError, describe
from lossylens.failure import Failure
from lossylens.images import content_hash
from lossylens.images.pixels import source_image
from lossylens.registry import building
from lossylens.registry.plugins import Registry
from lossylens.run.decoding import Bitstream, DecodeJob, DecoderProcess
from lossylens.run.jobs import CodecRecipe
from lossylens.store.database import Store
from lossylens.store.read_models import made_of
from lossylens.store.records import Picture as StoredPicture
from lossylens.task import Task
from PIL import Image

from lossylens_report.reading import RunReading
from lossylens_report.sheets import WIDTH, sheet

#: Longest side of a picture on the page, in pixels, and the quality of its WebP file where
#: it is not kept whole.
SIDE, QUALITY = 768, 85

#: ``src``, a data URI, ``exact`` where it has the model's very pixels, and ``bpp`` where
#: there is a bitstream; or ``why`` there is none.
Picture = dict[str, str | float]

T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """What the pictures of all runs together may take.

    Attributes:
        images: of each task.
        size: bytes of all pictures.
        seconds: to read and decode them.
    """

    images: int = 24
    size: int = 64_000_000
    seconds: float = 30.0


@dataclass
class Spent:
    """What of a budget the pictures have taken so far."""

    budget: Budget
    size: int = 0
    start: float = field(default_factory=time.monotonic)

    @property
    def over(self) -> str:
        """Why no more pictures are made, or ``""``."""
        if self.size >= self.budget.size:
            return f"left out: {self.budget.size / 1e6:g} MB of pictures are there already"
        if time.monotonic() - self.start > self.budget.seconds:
            return f"left out: the pictures took longer than {self.budget.seconds:g} s to decode"
        return ""

    @property
    def exact(self) -> bool:
        """Whether there is room for pictures as they are."""
        return self.size < self.budget.size / 2


@dataclass(frozen=True)
class SampleView:
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


@dataclass(frozen=True)
class PictureMaker:
    """Adds the pictures of the chosen samples of a task.

    Attributes:
        store, built, cells: of the run, and its cells of the task.
        views: what is shown of the chosen samples, by id.
        pictures: those of the run, by key of the view and ``original`` or codec and level.
        spent: of the budget.
        decoder: for compressed pictures.
    """

    store: Store
    built: RebuiltRun
    cells: Sequence[CellResult]
    views: Mapping[str, SampleView]
    pictures: dict[tuple[str, str], Picture]
    spent: Spent
    decoder: DecoderProcess

    @property
    def _parity(self) -> bool:
        return bool(self.built.run.results.manifest.get("evaluator_parity"))

    @property
    def _distinct(self) -> list[SampleView]:
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

    def _add(
        self, view: SampleView, name: str, make: Callable[[], tuple[Image.Image, Picture]]
    ) -> None:
        key = (view.key, name)
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
    originals: Mapping[str, Image.Image] | Failure, view: SampleView
) -> tuple[Image.Image, Picture]:
    if isinstance(originals, Failure):
        raise DataError(originals.reason)
    return _shown([(number, originals[image]) for number, image, _ in view.readable]), {}


def _compressed(
    point: _Point, originals: Mapping[str, Image.Image] | Failure, view: SampleView
) -> tuple[Image.Image, Picture]:
    """Return the images as the model was given them: context as it is."""
    shown, bits, pixels = [], 0.0, 0
    for number, image, context in view.readable:
        if context:
            if isinstance(originals, Failure):
                raise DataError(originals.reason)
            shown.append((number, originals[image]))
            continue
        picture, size, original = point.picture(image)
        shown.append((number, picture))
        bits += 8 * size
        pixels += original
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
class RebuiltRun:
    """Builds the parts of a run again, with the options that they had."""

    store: Store
    registry: Registry
    run: RunReading

    @cached_property
    def pictures(self) -> Mapping[str, StoredPicture]:
        """The images of the run, by hash."""
        return self.store.pictures()

    def task(self, cell: CellResult) -> Task:
        """Return the task of a cell."""
        described = made_of(self.store, self.store.cell(cell.key).task_key)
        options = self._options(described, "task", cell.task)
        return self.registry.build_task(described["name"], options)

    def codec(self, cell: CellResult) -> CodecRecipe:
        """Return the recipe of the codec of a cell, at its level."""
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
    built: RebuiltRun, cell: CellResult, views: Mapping[str, SampleView], parity: bool
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
        self,
        store: Store,
        built: RebuiltRun,
        cell: CellResult,
        parity: bool,
        decoder: DecoderProcess,
    ) -> None:
        self._store, self._built, self._cell = store, built, cell
        self._parity, self._decoder = parity, decoder
        self._encodings = store.encodings(store.cell(cell.key).codec_key)
        self._codec: CodecRecipe | None = None
        self._failure = ""

    def picture(self, image: str) -> tuple[Image.Image, int, int]:
        """Return the image as the model was given it, its bytes, and the original's pixels."""
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
        return shown, encoding.size, size[0] * size[1]

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
