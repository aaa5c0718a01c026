"""What the store keeps, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

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
