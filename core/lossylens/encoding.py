"""The first step of a run: every distinct image once per codec and level."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossylens.collect import Material
from lossylens.failure import Failure
from lossylens.jobs import CodecJob, backlogs, count_images, forget_original, run_works
from lossylens.plan import CodecLevel, Plan
from lossylens.progress import Step, progress
from lossylens.schedule import Work
from lossylens.sharing import SharedBitstreams
from lossylens.store import Store, write_bitstream


@dataclass(frozen=True)
class EncodeJob(CodecJob):
    """An image to be encoded at one level.

    Attributes:
        folder: run folder, into which the bitstream goes.
        last: whether the image is not encoded again at the next level.
        shared: bitstreams of other runs.
    """

    folder: Path
    last: bool
    shared: SharedBitstreams | None


@dataclass(frozen=True)
class Encoded:
    """A bitstream in the run folder.

    Attributes:
        sha256, size: of the bitstream, in bytes.
        seconds: that the codec took; None if another run has made it.
        spent: seconds of the whole job, such as reading the image.
    """

    sha256: str
    size: int
    seconds: float | None
    spent: float


def pending_encodings(plan: Plan, material: Material, store: Store) -> list[list[Work]]:
    """Return what is not in the store, apart for each codec of the configuration."""
    readable = [each for each in material.pictures.values() if not each.failure]
    hashes = {each.sha256 for each in readable}
    pending = {
        codec.part.key: hashes - _encoded(store, codec) for codec in plan.codecs if codec.encodes
    }
    return backlogs(plan, readable, pending)


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
    count = count_images(pending)
    if not count:
        return

    def jobs(work: Work) -> list[EncodeJob]:
        return _jobs(work, store.folder, parity, shared)

    with progress("Encoding", count, "images") as step:
        if shared:
            unmade = [list(_not_shared(works, store, shared, step)) for works in pending]
            pending = [works for works in unmade if works]
        for job, result in run_works(encode, jobs, pending, workers):
            image = job.picture.sha256
            if isinstance(result, Failure):
                store.add_encoding_failure(job.codec, image, result.reason)
            else:
                store.record_encoding(job.codec, image, result.sha256, result.size, result.seconds)
            step.advance()


def _jobs(
    work: Work, folder: Path, parity: bool, shared: SharedBitstreams | None
) -> list[EncodeJob]:
    last = work.codecs[-1]
    return [
        EncodeJob.of(codec, work.picture, parity, folder=folder, last=codec is last, shared=shared)
        for codec in work.codecs
    ]


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
    """Do one job, and put the bitstream into the run folder.

    It is written here, and not where the results come together, because one process
    could not write what many encode.

    Raises:
        StoreError: the bitstream cannot be written.
        Exception: whatever reading the image or a codec raises.
    """
    start = time.perf_counter()
    bitstream, seconds = _encode(job) if job.shared is None else _shared(job, job.shared)
    sha256 = write_bitstream(job.folder, bitstream)
    return Encoded(sha256, len(bitstream), seconds, time.perf_counter() - start)


def _shared(job: EncodeJob, shared: SharedBitstreams) -> tuple[bytes, float | None]:
    """Return the bitstream and the seconds that the codec took, None if it was made before."""
    with shared.locked(job.codec, job.picture.sha256):
        # Another run may have made it since this one began.
        found = shared.get(job.codec, job.picture.sha256)
        if found is not None:
            return found, None
        bitstream, seconds = _encode(job)
        shared.put(job.codec, job.picture.sha256, bitstream)
    return bitstream, seconds


def _encode(job: EncodeJob) -> tuple[bytes, float]:
    """Return the bitstream and the seconds that the codec took."""
    image = job.original()
    codec = job.built_codec()
    # A codec that draws in its argument must not harm the next level.
    argument = image if job.last else image.copy()
    if job.last:
        forget_original()
    start = time.perf_counter()
    bitstream = codec.encode(argument)
    seconds = time.perf_counter() - start
    if not isinstance(bitstream, bytes) or not bitstream:
        raise TypeError(f"the codec returned {bitstream!r:.40} instead of some bytes")
    return bitstream, seconds
