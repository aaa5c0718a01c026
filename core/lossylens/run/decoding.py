"""Decoding for a VLM: in a process of its own, ahead of the model, within bounds of memory.

A decoder is code of a plugin that is given bytes, so it may crash, hang or take all
memory; then this image fails and the next one gets a new process.  Pictures that wait for
the model are bounded by their number and by their pixels.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from lossylens.adaptor import Needs
from lossylens.codec import Codec, Latents
from lossylens.executor import Resources
from lossylens.failure import Failure, attempt
from lossylens.images.pixels import coded_size, given_image, source_image
from lossylens.run.executors.process import BoundedFunction
from lossylens.run.jobs import Carried, CodecRecipe, JobByJob
from lossylens.store.bitstreams import read_bitstream
from lossylens.store.records import Picture

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Bitstream:
    """A bitstream that a worker reads when it needs it.

    Attributes:
        sha256: of the content.
        folder: the run folder that has it; None if *content* does.
        content: returns the bytes, where workers do not see the run folder.
    """

    sha256: str
    folder: Path | None
    content: Carried | None = None

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            BitstreamError: the file is gone or is not what was stored.
        """
        if self.content is not None:
            return self.content()
        assert self.folder is not None
        return read_bitstream(self.folder, self.sha256)


@dataclass(frozen=True)
class DecodeJob:
    """A picture that a VLM is to be given, or what else is read from its bitstream.

    Attributes:
        picture: the original; its size is the most that the decoded image may have, unless a
            square is coded in its place.
        codec: at its level; None for the picture as it is.
        bitstream: of the picture; None without a codec.
        parity: see :mod:`lossylens.images.pixels`.
        needs: what is asked for; of a picture as it is, pixels are all there is.
        twice: decode once more, to see whether the decoder is deterministic.
    """

    picture: Picture
    codec: CodecRecipe | None
    bitstream: Bitstream | None
    parity: bool
    needs: Needs = Needs.PIXELS
    twice: bool = False

    @property
    def pixels(self) -> int:
        """Of the original."""
        return self.picture.width * self.picture.height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is decoded."""
        return coded_size(self.picture.size, self.codec.square if self.codec else None)

    @property
    def batch_images(self) -> int:
        """How many such jobs the decoder wants at once."""
        whole = self.codec is not None and self.needs & ~Needs.BITSTREAM == Needs.PIXELS
        return self.codec.batch_images if self.codec is not None and whole else 1


@dataclass(frozen=True)
class Decoded:
    """What a VLM is given.

    Attributes:
        size: width and height.
        data: RGB samples, row by row; None if no pixels were asked for.
        bitstream, latents: if they were asked for.
        seconds: that the decoder took.
        deterministic: False if decoding once more gave another picture.
    """

    size: tuple[int, int]
    data: bytes | None
    bitstream: bytes | None = None
    latents: Latents | None = None
    seconds: float = 0.0
    deterministic: bool = True

    def image(self) -> Image.Image | None:
        """Return the image, if it was asked for."""
        return None if self.data is None else Image.frombytes("RGB", self.size, self.data)


def decode(jobs: tuple[DecodeJob, ...]) -> tuple[Decoded | Failure, ...]:
    """Do some jobs; those of one codec that wants several images at once are done so."""
    [*codecs] = {job.codec.key if job.codec else "" for job in jobs}
    if len(jobs) > 1 and len(codecs) == 1 and all(len(jobs) <= job.batch_images for job in jobs):
        found = attempt(_decode_batch, jobs)
        if not isinstance(found, Failure):
            return found
    return tuple(attempt(_decode_one, job) for job in jobs)


def _decode_one(job: DecodeJob) -> Decoded:
    if job.codec is None or job.bitstream is None:
        image = source_image(job.picture.content(), parity=job.parity)
        return Decoded(image.size, image.tobytes())
    bitstream = job.bitstream.read()
    codec = job.codec.built()
    shown: Image.Image | None = None
    latents, deterministic = None, True
    start = time.perf_counter()
    if Needs.LATENTS in job.needs:
        latents = codec.latents(bitstream)
    if Needs.PIXELS in job.needs:
        shown = _given(job, codec, codec.decode(bitstream))
    seconds = time.perf_counter() - start
    if job.twice and shown is not None:
        deterministic = _given(job, codec, codec.decode(bitstream)) == shown
    kept = bitstream if Needs.BITSTREAM in job.needs else None
    if shown is None:
        return Decoded(job.size, None, kept, latents, seconds)
    return Decoded(shown.size, shown.tobytes(), kept, latents, seconds, deterministic)


def _decode_batch(jobs: tuple[DecodeJob, ...]) -> tuple[Decoded, ...]:
    recipe = jobs[0].codec
    assert recipe is not None
    codec = recipe.built()
    bitstreams = [job.bitstream.read() for job in jobs if job.bitstream is not None]
    start = time.perf_counter()
    images = codec.decode_batch(bitstreams)
    seconds = (time.perf_counter() - start) / len(jobs)
    found = []
    for job, bitstream, image in zip(jobs, bitstreams, images, strict=True):
        given, deterministic = _given(job, codec, image), True
        if job.twice:
            deterministic = _given(job, codec, codec.decode(bitstream)) == given
        kept = bitstream if Needs.BITSTREAM in job.needs else None
        found.append(Decoded(given.size, given.tobytes(), kept, None, seconds, deterministic))
    return tuple(found)


def _given(job: DecodeJob, codec: Codec, image: object) -> Image.Image:
    return given_image(image, job.size, parity=job.parity, smaller=not codec.keeps_size)


class DecoderProcess:
    """A process that decodes; another one where it ends.  For one thread at a time.

    Args:
        seconds: that a picture may take.
        memory: bytes that the process may take; None for no limit.
    """

    def __init__(self, seconds: float | None, memory: int | None) -> None:
        resources = Resources(threads=None, seconds=seconds, memory=memory)
        self._decode = BoundedFunction(JobByJob(decode, "decoding"), resources)

    def decode(self, jobs: Sequence[DecodeJob]) -> list[Decoded | Failure]:
        """Do some jobs together."""
        found = self._decode(tuple(jobs))
        if not isinstance(found, Failure):
            return list(found)
        if len(jobs) == 1:
            return [found]
        # One of them has ended the process; one by one tells which.
        return [each for job in jobs for each in self.decode([job])]

    def close(self) -> None:
        """End the process."""
        self._decode.close()


def ahead(
    function: Callable[[T], U],
    items: Iterable[T],
    depth: int,
    weigh: Callable[[T], float] = lambda item: 0.0,
    most: float = float("inf"),
) -> Generator[tuple[T, U], None, None]:
    """Yield each item with its result, which another thread works out ahead of use.

    Args:
        function: what to work out.  An exception comes out where its result would.
        items: consumed by that thread.
        depth: how many results may wait.
        weigh: returns what a result weighs, before it is worked out.
        most: how much those that wait may weigh together; a single one may weigh more.
    """
    results = _Results[tuple[T, U] | BaseException | None](depth, most)

    def work() -> None:
        try:
            for item in items:
                weight = weigh(item)
                if not results.wait_for_room(weight):
                    return
                results.put((item, function(item)), weight)
            results.put(None, 0.0)
        except BaseException as error:
            results.put(error, 0.0)

    thread = threading.Thread(target=work, name="decode-ahead", daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result
            # Or the last picture would be kept while the next is waited for.
            del result
    finally:
        results.stop()


class _Results(deque[tuple[U, float]]):
    """Results that wait, of bounded number and weight; for one thread on either side."""

    def __init__(self, depth: int, most: float) -> None:
        super().__init__()
        self._depth, self._most = depth, most
        self._weight = 0.0
        self._stopped = False
        self._changed = threading.Condition()

    def wait_for_room(self, weight: float) -> bool:
        """Wait until a result of *weight* may come; return False if none is wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._has_room(weight))
            return not self._stopped

    def _has_room(self, weight: float) -> bool:
        return not self or (len(self) < self._depth and self._weight + weight <= self._most)

    def put(self, result: U, weight: float) -> None:
        with self._changed:
            self.append((result, weight))
            self._weight += weight
            self._changed.notify_all()

    def get(self) -> U:
        with self._changed:
            self._changed.wait_for(lambda: bool(self))
            result, weight = self.popleft()
            self._weight -= weight
            self._changed.notify_all()
            return result

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
