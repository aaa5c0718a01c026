"""The first step of a run: every distinct image once per codec and level."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lossylens.executor import Executor, Resources
from lossylens.failure import Failure, FaultWatch, attempt
from lossylens.grid.config import Config
from lossylens.grid.plan import CodecLevel
from lossylens.images import content_hash
from lossylens.images.pixels import source_image
from lossylens.run.collect import Material
from lossylens.run.jobs import (
    CodecJob,
    JobByJob,
    backlogs,
    closing_workers,
    count_images,
    forget_original,
    run_works,
)
from lossylens.run.progress import Step, progress
from lossylens.run.schedule import ImageWork
from lossylens.store.bitstreams import write_bitstream
from lossylens.store.database import Store
from lossylens.store.records import Picture
from lossylens.store.sharing import SharedBitstreams


@dataclass(frozen=True)
class EncodeJob(CodecJob):
    """An image, or several of one size, to be encoded at one level.

    Attributes:
        others: the images that are encoded together with it.
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
    others: tuple[Picture, ...] = ()

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All its images."""
        return (self.picture, *self.others)

    @property
    def pixels(self) -> int:
        """Of all its images."""
        return sum(each.width * each.height for each in self.pictures)

    def alone(self) -> Iterator[EncodeJob]:
        """Yield a job for each image."""
        for picture in self.pictures:
            yield replace(self, picture=picture, others=(), twice=False)


@dataclass(frozen=True)
class Encoded:
    """A bitstream.

    Attributes:
        sha256, size: of the bitstream, in bytes.
        seconds: that the codec took; None if another run has made it.
        content: the bitstream itself, if it is not in the run folder yet.
        deterministic: False if encoding once more gave another bitstream.
    """

    sha256: str
    size: int
    seconds: float | None
    content: bytes | None = None
    deterministic: bool = True


@dataclass(frozen=True)
class EncodedTogether:
    """The results of a job, one for each image, and the seconds that it took as a whole."""

    results: tuple[Encoded | Failure, ...]
    spent: float


@dataclass(frozen=True)
class _Made:
    """What a codec has made, or another run: seconds are None then."""

    bitstream: bytes
    seconds: float | None
    deterministic: bool = True


def pending_encodings(
    codecs: Sequence[CodecLevel], material: Material, store: Store
) -> list[list[ImageWork]]:
    """Return what is not in the store, apart for each codec of the configuration."""
    readable = (
        each
        for each in material.pictures.values()
        if not each.failure and each.sha256 in material.compressed
    )
    # What is done, since it is little when there is most to do.
    done = {codec.part.key: store.encoded(codec.part.key) for codec in codecs if codec.encodes}
    return backlogs(codecs, readable, lambda key, image: image not in done[key])


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
        begun = {codec.part.key for codec in codecs if store.encoded(codec.part.key)}
        jobs = _Jobs(folder, run.evaluator_parity, shared, begun)
        on_device = any(codec.wants_device for codec in codecs)
        resources = Resources(
            workers=run.workers,
            threads=None if on_device else 1,
            gpus=1 if on_device else 0,
            seconds=run.timeout,
            memory=config.memory,
            plugin=codecs[0].choice.where,
        )
        recipe = JobByJob(encode, f"the encoder of {title}")
        keeping = _Keeping(codecs, store, step, config.environment.hidden)
        with closing_workers(run_works(executor, recipe, jobs, pending, resources)) as done:
            again = [job for crashed in map(keeping.keep, done) for job in crashed]
        # Whose batch has ended a worker may have been harmless; one by one tells.
        chunks = [[job] for job in again]
        with closing_workers(executor.run(recipe, chunks, resources)) as done:
            for each in done:
                keeping.keep(each)
        keeping.end()


class _Keeping:
    """Puts results into the store."""

    def __init__(
        self,
        codecs: Sequence[CodecLevel],
        store: Store,
        step: Step,
        hidden: Callable[[str], str],
    ) -> None:
        self._store, self._step, self._hidden = store, step, hidden
        self._watches = {codec.part.key: _watch(codec, store.folder) for codec in codecs}

    def keep(self, done: tuple[EncodeJob, EncodedTogether | Failure]) -> list[EncodeJob]:
        """Record what became of a job; return what is to be done again, image by image."""
        job, result = done
        if isinstance(result, Failure):
            if job.others:
                return list(job.alone())
            self._keep(job, job.picture, result)
        else:
            for picture, each in zip(job.pictures, result.results, strict=True):
                self._keep(job, picture, each)
        return []

    def _keep(self, job: EncodeJob, picture: Picture, result: Encoded | Failure) -> None:
        key, image = job.codec.key, picture.sha256
        if isinstance(result, Failure):
            self._watches[key].failed(result, partial(self._fail, key, image, result))
            return
        self._watches[key].succeeded()
        if result.content is not None:
            write_bitstream(self._store.folder, result.content)
        self._store.record_encoding(key, image, result.sha256, result.size, result.seconds)
        if not result.deterministic:
            self._store.add_note(
                key, "it is not deterministic: it made two bitstreams of one picture"
            )
        self._step.advance()

    def _fail(self, codec: str, image: str, failure: Failure) -> None:
        reason = self._hidden(failure.reason)
        self._store.add_encoding_failure(codec, image, reason, transient=failure.transient)
        self._step.advance()

    def end(self) -> None:
        """Record what was held back."""
        for watch in self._watches.values():
            watch.release()


def _watch(codec: CodecLevel, folder: Path) -> FaultWatch:
    return FaultWatch("codec", f"the encoder of codec {codec.choice.spec.name!r}", folder)


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

    def __call__(self, works: Sequence[ImageWork]) -> list[EncodeJob]:
        jobs = [self._job(work, codec) for work in works for codec in work.codecs]
        if all(job.codec.batch_images == 1 for job in jobs):
            return jobs
        return list(_together(jobs))

    def _job(self, work: ImageWork, codec: CodecLevel) -> EncodeJob:
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


def _together(jobs: Iterable[EncodeJob]) -> Iterator[EncodeJob]:
    """Join jobs of one codec, level and size of image, up to what the codec wants at once."""
    groups: dict[tuple[str, tuple[int, int]], list[EncodeJob]] = {}
    for job in jobs:
        groups.setdefault((job.codec.key, job.picture.size), []).append(job)
    for group in groups.values():
        for first in range(0, len(group), group[0].codec.batch_images):
            some = group[first : first + group[0].codec.batch_images]
            others = tuple(job.picture for job in some[1:])
            twice = any(job.twice for job in some)
            yield replace(some[0], others=others, twice=twice, last=True)


def _not_shared(
    works: Sequence[ImageWork], store: Store, shared: SharedBitstreams, step: Step
) -> Iterator[ImageWork]:
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
            yield ImageWork(work.picture, tuple(lacking))


def encode(job: EncodeJob) -> EncodedTogether:
    """Do one job, and put the bitstreams into the run folder where it can be seen.

    They are written here, and not where the results come together, because one process
    could not write what many encode.

    Raises:
        StoreError: a bitstream cannot be written.
        Exception: whatever reading an image or a codec raises, for a job of one image.
    """
    start = time.perf_counter()
    if not job.others:
        return EncodedTogether((_encoded_one(job),), time.perf_counter() - start)
    results = attempt(_encoded_batch, job)
    if isinstance(results, Failure):
        results = tuple(attempt(_encoded_one, each) for each in job.alone())
    return EncodedTogether(results, time.perf_counter() - start)


def _encoded_one(job: EncodeJob) -> Encoded:
    return _kept(job, _encode(job) if job.shared is None else _shared(job, job.shared))


def _encoded_batch(job: EncodeJob) -> tuple[Encoded | Failure, ...]:
    """Encode several images at once.

    Raises:
        Exception: whatever reading an image or the codec raises.
    """
    codec, square = job.codec.built(), job.codec.square
    images = [
        source_image(each.content(), parity=job.parity, square=square) for each in job.pictures
    ]
    start = time.perf_counter()
    bitstreams = codec.encode_batch([image.copy() for image in images])
    seconds = (time.perf_counter() - start) / len(images)
    if len(bitstreams) != len(images):
        raise ValueError(f"the codec made {len(bitstreams)} bitstreams of {len(images)} images")
    # Alone, as a batch may have an order of its own.
    deterministic = not job.twice or codec.encode(images[0]) == bitstreams[0]
    found = []
    for picture, bitstream in zip(job.pictures, bitstreams, strict=True):
        made = _Made(_checked(bitstream), seconds, deterministic)
        if job.shared is not None:
            job.shared.put(job.codec.key, picture.sha256, made.bitstream)
        found.append(_kept(job, made))
    return tuple(found)


def _kept(job: EncodeJob, made: _Made) -> Encoded:
    content = None
    if job.folder is None:
        content = made.bitstream
        sha256 = content_hash(content)
    else:
        sha256 = write_bitstream(job.folder, made.bitstream)
    return Encoded(sha256, len(made.bitstream), made.seconds, content, made.deterministic)


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
    bitstream = _checked(codec.encode(argument))
    seconds = time.perf_counter() - start
    deterministic = not job.twice or codec.encode(image.copy()) == bitstream
    return _Made(bitstream, seconds, deterministic)


def _checked(bitstream: object) -> bytes:
    if not isinstance(bitstream, bytes) or not bitstream:
        raise TypeError(f"the codec returned {bitstream!r:.40} instead of some bytes")
    return bitstream
