"""The first step of a run: every distinct image once per codec and level."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lossylens.collect import Material
from lossylens.config import Config
from lossylens.executor import Executor, Resources
from lossylens.failure import Failure, FaultWatch
from lossylens.images import content_hash
from lossylens.jobs import CodecJob, JobByJob, backlogs, count_images, forget_original, run_works
from lossylens.plan import CodecLevel
from lossylens.progress import Step, progress
from lossylens.schedule import Work
from lossylens.sharing import SharedBitstreams
from lossylens.store import Store, write_bitstream


@dataclass(frozen=True)
class EncodeJob(CodecJob):
    """An image to be encoded at one level.

    Attributes:
        folder: run folder, into which the bitstream goes.
            None where workers do not see it, so that the bitstream is given back.
        last: whether the image is not encoded again at the next level.
        twice: encode once more, to see whether the codec is deterministic.
        shared: bitstreams of other runs.
    """

    folder: Path | None
    last: bool
    twice: bool
    shared: SharedBitstreams | None


@dataclass(frozen=True)
class Encoded:
    """A bitstream.

    Attributes:
        sha256, size: of the bitstream, in bytes.
        seconds: that the codec took; None if another run has made it.
        spent: seconds of the whole job, such as reading the image.
        content: the bitstream itself, if it is not in the run folder yet.
        deterministic: False if encoding once more gave another bitstream.
    """

    sha256: str
    size: int
    seconds: float | None
    spent: float
    content: bytes | None = None
    deterministic: bool = True


@dataclass(frozen=True)
class _Made:
    """What a codec has made, or another run: seconds are None then."""

    bitstream: bytes
    seconds: float | None
    deterministic: bool = True


def pending_encodings(
    codecs: Sequence[CodecLevel], material: Material, store: Store
) -> list[list[Work]]:
    """Return what is not in the store, apart for each codec of the configuration."""
    readable = [each for each in material.pictures.values() if not each.failure]
    hashes = {each.sha256 for each in readable}
    pending = {codec.part.key: hashes - _encoded(store, codec) for codec in codecs if codec.encodes}
    return backlogs(codecs, readable, pending)


def _encoded(store: Store, codec: CodecLevel) -> set[str]:
    rows = store.rows("SELECT image FROM encodings WHERE codec = ?", (codec.part.key,))
    return {row["image"] for row in rows}


def encode_all(
    config: Config,
    codecs: Sequence[CodecLevel],
    material: Material,
    executor: Executor[Any, Any],
    store: Store,
) -> None:
    """Encode what is not in the store; each result is stored as it comes.

    Args:
        config: of the run.
        codecs: at the levels at which everything is to be encoded.
        material: the images.
        executor: where it is done.
        store: where bitstreams and failures go.

    Raises:
        FaultError: a codec is at fault.
        LossylensError: one cannot work at all, or the store cannot be written.
    """
    pending = pending_encodings(codecs, material, store)
    count = count_images(pending)
    if not count:
        return
    run = config.run
    shared = SharedBitstreams(run.cache) if run.cache else None
    title = ", ".join(dict.fromkeys(codec.choice.label for codec in codecs if codec.encodes))
    with progress(f"Encoding, {title}", count, "images") as step:
        if shared:
            unmade = [list(_not_shared(works, store, shared, step)) for works in pending]
            pending = [works for works in unmade if works]
        if not pending:
            return
        folder = store.folder if executor.shares_folder else None
        begun = {codec.part.key for codec in codecs if _encoded(store, codec)}
        jobs = _Jobs(folder, run.evaluator_parity, shared, begun)
        resources = Resources(
            workers=config.workers, threads=1, seconds=run.timeout, memory=config.memory
        )
        watches = {
            codec.part.key: FaultWatch(
                "codec", f"the encoder of codec {codec.choice.spec.name!r}", run.out
            )
            for codec in codecs
        }
        recipe = JobByJob(encode, f"the encoder of {title}")
        for job, result in run_works(executor, recipe, jobs, pending, resources):
            watch, image = watches[job.codec.key], job.picture.sha256
            if isinstance(result, Failure):
                watch.failed(result, partial(_fail, store, step, job, result))
                continue
            watch.succeeded()
            if result.content is not None:
                write_bitstream(store.folder, result.content)
            key = job.codec.key
            store.record_encoding(key, image, result.sha256, result.size, result.seconds)
            if not result.deterministic:
                store.add_note(
                    key, "it is not deterministic: it made two bitstreams of one picture"
                )
            step.advance()
        for watch in watches.values():
            watch.release()


def _watch(codec: CodecLevel, folder: Path) -> FaultWatch:
    return FaultWatch("codec", f"the encoder of codec {codec.choice.spec.name!r}", folder)


def _fail(store: Store, step: Step, job: EncodeJob, failure: Failure) -> None:
    store.add_encoding_failure(
        job.codec.key, job.picture.sha256, failure.reason, transient=failure.transient
    )
    step.advance()


class _Jobs:
    """Makes the jobs of a work; the first of each codec and level is to be done twice.

    Args:
        begun: keys of codecs and levels of which something is encoded already.
    """

    def __init__(
        self, folder: Path | None, parity: bool, shared: SharedBitstreams | None, begun: set[str]
    ) -> None:
        self._folder, self._parity, self._shared = folder, parity, shared
        self._begun = begun

    def __call__(self, work: Work) -> list[EncodeJob]:
        return [self._job(work, codec) for codec in work.codecs]

    def _job(self, work: Work, codec: CodecLevel) -> EncodeJob:
        key = codec.part.key
        twice = key not in self._begun
        self._begun.add(key)
        return EncodeJob.of(
            codec,
            work.picture,
            self._parity,
            folder=self._folder,
            last=codec is work.codecs[-1],
            twice=twice,
            shared=self._shared,
        )


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


def encode(job: EncodeJob) -> Encoded:
    """Do one job, and put the bitstream into the run folder where it can be seen.

    It is written here, and not where the results come together, because one process
    could not write what many encode.

    Raises:
        StoreError: the bitstream cannot be written.
        Exception: whatever reading the image or a codec raises.
    """
    start = time.perf_counter()
    made = _encode(job) if job.shared is None else _shared(job, job.shared)
    content = None
    if job.folder is None:
        content = made.bitstream
        sha256 = content_hash(content)
    else:
        sha256 = write_bitstream(job.folder, made.bitstream)
    return Encoded(
        sha256=sha256,
        size=len(made.bitstream),
        seconds=made.seconds,
        spent=time.perf_counter() - start,
        content=content,
        deterministic=made.deterministic,
    )


def _shared(job: EncodeJob, shared: SharedBitstreams) -> _Made:
    """Return the bitstream, which another run may have made."""
    key, image = job.codec.key, job.picture.sha256
    with shared.locked(key, image):
        # Another run may have made it since this one began.
        found = shared.get(key, image)
        if found is not None:
            return _Made(found, None)
        made = _encode(job)
        shared.put(key, image, made.bitstream)
    return made


def _encode(job: EncodeJob) -> _Made:
    image = job.original()
    codec = job.codec.built()
    # A codec that draws in its argument must not harm the next level.
    argument = image if job.last and not job.twice else image.copy()
    if job.last and not job.twice:
        forget_original()
    start = time.perf_counter()
    bitstream = codec.encode(argument)
    seconds = time.perf_counter() - start
    if not isinstance(bitstream, bytes) or not bitstream:
        raise TypeError(f"the codec returned {bitstream!r:.40} instead of some bytes")
    deterministic = not job.twice or codec.encode(image.copy()) == bitstream
    return _Made(bitstream, seconds, deterministic)
