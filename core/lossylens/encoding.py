"""The first step of a run: every distinct image once per codec and level."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from PIL.Image import Image

from lossylens.codec import Codec, Level
from lossylens.collect import Material, Picture
from lossylens.executors.local import run_jobs
from lossylens.failure import Failure, attempt
from lossylens.loading import import_object
from lossylens.pixels import source_image
from lossylens.plan import CodecLevel, Plan
from lossylens.progress import progress
from lossylens.store import Store


@dataclass(frozen=True)
class EncodeJob:
    """An image to be encoded at one level; all that a worker process needs.

    Attributes:
        plugin: place of the codec in the configuration.
        codec: key of the codec and level.
        factory, level, options: to build the codec from.
        sha256, data: of the image file.
        parity: see :mod:`lossylens.pixels`.
    """

    plugin: str
    codec: str
    factory: str
    level: Level
    options: Any
    sha256: str
    data: bytes
    parity: bool


@dataclass(frozen=True)
class Encoded:
    """A bitstream and the seconds that making it took."""

    bitstream: bytes
    seconds: float


def pending_encodings(
    plan: Plan, material: Material, store: Store
) -> list[tuple[CodecLevel, Picture]]:
    """Return what is not in the store, images varying slower than the levels of a codec.

    An image is thus read once for all levels of a codec.
    """
    readable = [each for each in material.pictures.values() if not each.failure]
    pending = []
    encoding = [codec for codec in plan.codecs if codec.encodes]
    for _, group in groupby(encoding, lambda codec: codec.choice.where):
        levels = [(codec, store.encodings(codec.part.key)) for codec in group]
        for picture in readable:
            pending += [(codec, picture) for codec, done in levels if picture.sha256 not in done]
    return pending


def encode_all(plan: Plan, material: Material, store: Store, *, workers: int, parity: bool) -> None:
    """Encode what is not in the store; each result is stored as it comes.

    Raises:
        LossylensError: a codec cannot work at all, or the store cannot be written.
    """
    pending = pending_encodings(plan, material, store)
    if not pending:
        return
    jobs = _jobs(pending, store, parity)
    with progress("Encoding", len(pending), "images") as step:
        for job, result in run_jobs(encode, jobs, min(workers, len(pending))):
            if isinstance(result, Failure):
                store.add_encoding_failure(job.codec, job.sha256, result.reason)
            else:
                store.add_encoding(job.codec, job.sha256, result.bitstream, result.seconds)
            step.advance()
    # With one worker, they were built here.
    _built.cache_clear()
    _image.cache_clear()


def _jobs(
    pending: list[tuple[CodecLevel, Picture]], store: Store, parity: bool
) -> Iterator[EncodeJob]:
    for _, group in groupby(pending, lambda each: each[1].sha256):
        codecs, pictures = zip(*group, strict=True)
        data = attempt(Picture.content, pictures[0])
        for codec in codecs:
            if isinstance(data, Failure):
                store.add_encoding_failure(codec.part.key, pictures[0].sha256, data.reason)
                continue
            yield EncodeJob(
                plugin=codec.choice.where,
                codec=codec.part.key,
                factory=codec.choice.spec.factory,
                level=codec.level,
                options=codec.choice.options,
                sha256=pictures[0].sha256,
                data=data,
                parity=parity,
            )


def encode(job: EncodeJob) -> Encoded:
    """Do one job.

    Raises:
        Exception: whatever reading the image or a codec raises.
    """
    image = _image(job.sha256, job.data, job.parity)
    codecs = _built(job.plugin)
    if job.codec not in codecs:
        codecs[job.codec] = import_object(job.factory)(job.level, job.options)
    codec = codecs[job.codec]
    start = time.perf_counter()
    # A copy, so that a codec that draws in its argument harms nobody else.
    bitstream = codec.encode(image.copy())
    seconds = time.perf_counter() - start
    if not isinstance(bitstream, bytes) or not bitstream:
        raise TypeError(f"the codec returned {bitstream!r:.40} instead of some bytes")
    return Encoded(bitstream, seconds)


@lru_cache(maxsize=1)
def _image(sha256: str, data: bytes, parity: bool) -> Image:
    """Return the image that is being encoded at one level after the other."""
    return source_image(data, parity=parity)


@lru_cache(maxsize=1)
def _built(plugin: str) -> dict[str, Codec]:
    """Return the levels built in this process of the plugin whose turn it is, by key."""
    return {}
