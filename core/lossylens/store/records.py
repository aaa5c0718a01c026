"""What the store keeps, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from lossylens.errors import DataError
from lossylens.images import SourceFormat, content_hash
from lossylens.store.jsonable import plain, short_hash, to_json

#: Part of every key; raised when the core itself changes pixels or prompts.
KEY_VERSION = 1

#: Label of a VLM as it is, without an adaptor.
NO_ADAPTOR = "none"


@dataclass(frozen=True)
class Part:
    """A codec at a level, a VLM with its adaptor, or a task, by what it is made of.

    Attributes:
        kind: ``codec``, ``vlm`` or ``task``.
        description: plugin, version, options and provenance; equal descriptions
            give equal results.
    """

    kind: str
    description: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Hash of the description."""
        return short_hash([KEY_VERSION, self.kind, self.description])


def with_adaptor(vlm: str, adaptor: str) -> str:
    """Return the name of a VLM and its adaptor in messages."""
    return vlm if adaptor == NO_ADAPTOR else f"{vlm} with {adaptor}"


@dataclass(frozen=True)
class Cell:
    """One VLM, adaptor, codec, level and task: labels, and keys of their parts."""

    vlm: str
    adaptor: str
    codec: str
    level: str
    task: str
    vlm_key: str
    codec_key: str
    task_key: str

    @property
    def key(self) -> str:
        """Hash of the parts' keys."""
        return short_hash([self.vlm_key, self.codec_key, self.task_key])

    def __str__(self) -> str:
        """Return the labels."""
        return f"{with_adaptor(self.vlm, self.adaptor)}, {self.codec} {self.level}, {self.task}"


@dataclass(frozen=True)
class Absence:
    """Cells that the grid has not, and why: labels as in :class:`Cell`."""

    vlm: str
    adaptor: str
    codec: str
    level: str
    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A row of the table ``predictions``: an answer, or why there is none."""

    cell: str
    sample: str
    text: str | None
    stage: str | None = None
    failure: str | None = None
    transient: bool = False
    usage: Mapping[str, float] = field(default_factory=dict)

    @property
    def row(self) -> tuple[Any, ...]:
        """The row, in the order of the columns."""
        usage = to_json(self.usage) if self.usage else None
        known = (plain(self.text), usage, self.stage, plain(self.failure), int(self.transient))
        return (self.cell, self.sample, *known)


@dataclass(frozen=True, slots=True)
class StoredSample:
    """A row of the table ``samples`` with its images.

    Attributes:
        images: hash, None where the file could not be read, and whether it is context.
        question, fields: as JSON.
    """

    id: str
    images: tuple[tuple[str | None, bool], ...]
    question: str
    fields: str
    cluster: str

    def with_known(self, other: StoredSample) -> StoredSample:
        """Return the sample with the hashes of *other* where it has none, and its cluster then."""
        if len(self.images) != len(other.images):
            return self
        pairs = zip(self.images, other.images, strict=True)
        images = tuple((image or known, context) for (image, context), (known, _) in pairs)
        cluster = self.cluster if images == self.images else other.cluster
        return replace(self, images=images, cluster=cluster)


@dataclass(frozen=True, slots=True)
class Picture:
    """A distinct image file.

    Attributes:
        sha256: of the file.
        file_bytes: size of the file.
        width, height: of the decoded image; 0 if it cannot be decoded.
        format: of the file; None where it is not known.
        failure: why it cannot be decoded, or ``""``.
        read: returns the file's content.
    """

    sha256: str
    file_bytes: int
    width: int = 0
    height: int = 0
    format: SourceFormat | None = None
    failure: str = ""
    read: Callable[[], bytes] = field(repr=False, compare=False, default=bytes)

    def content(self) -> bytes:
        """Read the file again.

        Raises:
            DataError: it has changed since the run has begun.
        """
        data = self.read()
        if content_hash(data) != self.sha256:
            raise DataError("the image file has changed since the run has begun")
        return data

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class StoredEncoding:
    """An image at one codec and level: its bitstream, or why there is none.

    Attributes:
        bitstream: SHA-256; None for a failure.
        size: of the bitstream in bytes.
        transient: whether the failure may pass.
    """

    bitstream: str | None
    size: int | None
    failure: str | None
    transient: bool


class Rate(NamedTuple):
    """Of a cell: number of images, mean bits per pixel, total bits over total pixels."""

    images: int
    mean: float | None
    total: float | None


class Timing(NamedTuple):
    """What took how long: a stage (encode, decode or answer), key of the codec or VLM."""

    stage: str
    part: str
    items: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ScoredCell:
    """A scored cell of the latest configuration, by its labels.

    Attributes:
        value: None if it is not a number.
        rate: mean bits per pixel.
        failed: samples.
        limited: whether the task has more images than were asked about.
        asked_images: how many were.
    """

    vlm: str
    adaptor: str
    codec: str
    level: str
    task: str
    value: float | None
    rate: float | None
    failed: int
    limited: bool
    asked_images: int


@dataclass(frozen=True, slots=True)
class StoredFidelity:
    """How far a decoded image is from its original, or why that is not known."""

    codec: str
    image: str
    metric: str
    method: str
    value: float | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class StoredSetFidelity:
    """The same of all images of a task together.

    Attributes:
        inputs: hash of what was measured.
        value: None for fewer than two images.
    """

    codec: str
    task: str
    metric: str
    inputs: str
    value: float | None
    images: int
