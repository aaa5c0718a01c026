"""The first step of a run: every distinct image once per codec and level."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

from PIL.Image import Image

from lossylens.codec import Codec, Level
from lossylens.collect import Material, Picture
from lossylens.errors import DataError
from lossylens.executors.local import run_jobs
from lossylens.failure import Failure, attempt
from lossylens.loading import import_object
from lossylens.pixels import source_image
from lossylens.plan import CodecLevel, Plan
from lossylens.progress import Step, progress
from lossylens.schedule import Schedule, Work
from lossylens.sharing import SharedBitstreams
from lossylens.store import Store


@dataclass(frozen=True)
class EncodeJob:
    """An image to be encoded at one level; all that a worker process needs.

    Attributes:
        plugin: place of the codec in the configuration.
        codec: key of the codec and level.
        factory, level, options: to build the codec from.
        picture: the image.
        parity: see :mod:`lossylens.pixels`.
        last: whether the image is not encoded again at the next level.
        shared: bitstreams of other runs.
    """

    plugin: str
    codec: str
    factory: str
    level: Level
    options: Any
    picture: Picture
    parity: bool
    last: bool
    shared: SharedBitstreams | None


@dataclass(frozen=True)
class Encoded:
    """A bitstream.

    Attributes:
        seconds: that the codec took; None if another run has made it.
        spent: seconds of the whole job, such as reading the image.
    """

    bitstream: bytes
    seconds: float | None
    spent: float


def pending_encodings(plan: Plan, material: Material, store: Store) -> list[list[Work]]:
    """Return what is not in the store, apart for each codec of the configuration."""
    readable = [each for each in material.pictures.values() if not each.failure]
    encoding = [codec for codec in plan.codecs if codec.encodes]
    pending = []
    for _, group in groupby(encoding, lambda codec: codec.choice.where):
        levels = [(codec, _encoded(store, codec)) for codec in group]
        works = []
        for picture in readable:
            lacking = tuple(codec for codec, done in levels if picture.sha256 not in done)
            if lacking:
                works.append(Work(picture, lacking))
        pending.append(works)
    return pending


def _encoded(store: Store, codec: CodecLevel) -> set[str]:
    rows = store.rows("SELECT image FROM encodings WHERE codec = ?", (codec.part.key,))
    return {row["image"] for row in rows}


def encode_all(
    plan: Plan,
    material: Material,
    store: Store,
    *,
    workers: int,
    parity: bool,
    shared: SharedBitstreams | None = None,
) -> None:
    """Encode what is not in the store; each result is stored as it comes.

    Args:
        plan: the codecs.
        material: the images.
        store: where bitstreams and failures go.
        workers: number of processes; 1 is this process.
        parity: see :mod:`lossylens.pixels`.
        shared: bitstreams of other runs, which are not made again.

    Raises:
        LossylensError: a codec cannot work at all, or the store cannot be written.
    """
    pending = pending_encodings(plan, material, store)
    count = sum(len(work.codecs) for works in pending for work in works)
    if not count:
        return
    with progress("Encoding", count, "images") as step:
        if shared:
            pending = [list(_not_shared(works, store, shared, step)) for works in pending]
        backlogs = [works for works in pending if works]
        workers = min(workers, count)
        schedule = Schedule(backlogs, workers)
        # One worker takes codec by codec, because it has room for the levels of one.
        chunks = schedule if workers > 1 else ([work] for works in backlogs for work in works)
        jobs = (_jobs(chunk, parity, shared, sent=workers > 1) for chunk in chunks)
        for job, result in run_jobs(encode, jobs, workers):
            image = job.picture.sha256
            if isinstance(result, Failure):
                store.add_encoding_failure(job.codec, image, result.reason)
            else:
                store.add_encoding(job.codec, image, result.bitstream, result.seconds)
                schedule.learn(job.plugin, job.picture, result.spent)
            step.advance()
    # With one worker, they were built here.
    _built.cache_clear()
    _image.cache_clear()


def _not_shared(
    works: Sequence[Work], store: Store, shared: SharedBitstreams, step: Step
) -> Iterator[Work]:
    """Store what other runs have made; yield the rest."""
    for work in works:
        lacking = []
        for codec in work.codecs:
            bitstream = shared.get(codec.part.key, work.picture.sha256)
            if bitstream is None:
                lacking.append(codec)
                continue
            store.add_encoding(codec.part.key, work.picture.sha256, bitstream, None)
            step.advance()
        if lacking:
            yield Work(work.picture, tuple(lacking))


def _jobs(
    chunk: Sequence[Work], parity: bool, shared: SharedBitstreams | None, *, sent: bool
) -> list[EncodeJob]:
    """Return the jobs of a chunk, fit to be sent to another process if they are."""
    jobs = []
    for work in chunk:
        picture = portable(work.picture) if sent else work.picture
        jobs += [
            EncodeJob(
                plugin=work.plugin,
                codec=codec.part.key,
                factory=codec.choice.spec.factory,
                level=codec.level,
                options=codec.choice.options,
                picture=picture,
                parity=parity,
                last=codec is work.codecs[-1],
                shared=shared,
            )
            for codec in work.codecs
        ]
    return jobs


def portable(picture: Picture) -> Picture:
    """Return *picture* with a reader that works in another process.

    Most read from a file, which the worker does itself; else the image is sent.
    """
    try:
        pickle.dumps(picture.read)
    except Exception:  # of many kinds
        return replace(picture, read=_Content.of(picture))
    return picture


@dataclass(frozen=True)
class _Content:
    """Reads an image that has been read already, or could not be."""

    data: bytes
    problem: str = ""

    @classmethod
    def of(cls, picture: Picture) -> _Content:
        data = attempt(Picture.content, picture)
        return cls(b"", data.reason) if isinstance(data, Failure) else cls(data)

    def __call__(self) -> bytes:
        if self.problem:
            raise DataError(self.problem)
        return self.data


def encode(job: EncodeJob) -> Encoded:
    """Do one job.

    Raises:
        Exception: whatever reading the image or a codec raises.
    """
    start = time.perf_counter()
    if job.shared is None:
        bitstream, seconds = _encode(job)
        return Encoded(bitstream, seconds, time.perf_counter() - start)
    with job.shared.locked(job.codec, job.picture.sha256):
        # Another run may have made it since this one began.
        found = job.shared.get(job.codec, job.picture.sha256)
        if found is not None:
            return Encoded(found, None, time.perf_counter() - start)
        bitstream, seconds = _encode(job)
        job.shared.put(job.codec, job.picture.sha256, bitstream)
    return Encoded(bitstream, seconds, time.perf_counter() - start)


def _encode(job: EncodeJob) -> tuple[bytes, float]:
    """Return the bitstream and the seconds that the codec took."""
    image = _image(job.picture, job.parity)
    codecs = _built(job.plugin)
    if job.codec not in codecs:
        codecs[job.codec] = import_object(job.factory)(job.level, job.options)
    codec = codecs[job.codec]
    # A codec that draws in its argument must not harm the next level.
    argument = image if job.last else image.copy()
    if job.last:
        _image.cache_clear()
    start = time.perf_counter()
    bitstream = codec.encode(argument)
    seconds = time.perf_counter() - start
    if not isinstance(bitstream, bytes) or not bitstream:
        raise TypeError(f"the codec returned {bitstream!r:.40} instead of some bytes")
    return bitstream, seconds


@lru_cache(maxsize=1)
def _image(picture: Picture, parity: bool) -> Image:
    """Return the image that is being encoded at one level after the other."""
    return source_image(picture.content(), parity=parity)


@lru_cache(maxsize=1)
def _built(plugin: str) -> dict[str, Codec]:
    """Return the levels built in this process of the plugin whose turn it is, by key."""
    return {}
