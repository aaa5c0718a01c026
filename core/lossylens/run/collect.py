"""What a run is about: the samples of its tasks and their distinct images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from lossylens.errors import DataError
from lossylens.failure import Failure, attempt, guarded
from lossylens.grid.plan import Benchmark, Demand
from lossylens.grid.shard import Shard
from lossylens.images import SourceFormat, content_hash, read_image, source_format
from lossylens.run.progress import Step
from lossylens.store.records import Picture
from lossylens.task import ImageRef, Sample
from lossylens.vlm import QuestionKind


@dataclass(frozen=True, slots=True)
class Asked:
    """A sample with its images.

    Attributes:
        images: hashes, in the sample's order; None where a file cannot be read.
        failure: why not, or ``""``.
    """

    sample: Sample
    images: tuple[str | None, ...]
    failure: str = ""

    @property
    def compressed(self) -> tuple[str, ...]:
        """Hashes of the images that are not context, as far as they can be read."""
        found = zip(self.images, self.sample.images, strict=True)
        return tuple(image for image, given in found if image and not given.context)

    @property
    def cluster(self) -> str:
        """What the bootstrap draws together."""
        if self.sample.cluster:
            return self.sample.cluster
        found = zip(self.images, self.sample.images, strict=True)
        return " ".join(image or f"unread:{given.key}" for image, given in found)


@dataclass(frozen=True)
class Material:
    """Samples by task key, and pictures by hash.

    Attributes:
        demands: what the questions of a task ask of a VLM, those of other shares included.
        limited: keys of tasks that have more images than the run's limit.
    """

    samples: Mapping[str, tuple[Asked, ...]]
    pictures: Mapping[str, Picture]
    demands: Mapping[str, Demand]
    limited: frozenset[str] = frozenset()

    @cached_property
    def compressed(self) -> frozenset[str]:
        """Hashes of all images that are to be encoded: all but those that are context only."""
        asked = (each for samples in self.samples.values() for each in samples)
        return frozenset(image for each in asked for image in each.compressed)


def collect(
    benchmarks: tuple[Benchmark, ...],
    limit: int | None,
    known: Mapping[str, Picture],
    step: Step,
    shard: Shard | None = None,
) -> Material:
    """Read all samples, and every distinct image once.

    Every image is decoded once, to find out now rather than later whether it can
    be, except those in *known*.

    Args:
        benchmarks: tasks with their data.
        limit: only the first so many images of each task.
        known: pictures of an earlier start, by hash.
        step: advanced by one for each image.
        shard: the share of the images that counts; None for all.

    Raises:
        DataError: malformed data, or two samples of one task with one id.
    """
    pictures: dict[str, Picture] = {}
    samples = {}
    demands = {}
    limited = set()
    for benchmark in benchmarks:
        hashes: dict[str, str | Failure] = {}
        chosen, whole = _first(benchmark, limit)
        if not whole:
            limited.add(benchmark.part.key)
        demands[benchmark.part.key] = _demand(chosen)
        if shard is not None:
            chosen = list(_share(chosen, shard))
        for sample in chosen:
            for image in sample.images:
                if image.key not in hashes:
                    hashes[image.key] = _take(image, known, pictures)
                    step.advance()
        samples[benchmark.part.key] = tuple(_asked(each, hashes) for each in chosen)
    return Material(samples, pictures, demands, frozenset(limited))


def _demand(samples: list[Sample]) -> Demand:
    return Demand(
        images=max(len(each.images) for each in samples),
        boxes=any(each.question.kind is QuestionKind.BOX for each in samples),
    )


def _share(samples: list[Sample], shard: Shard) -> Iterator[Sample]:
    """Yield the samples whose first image that is compressed is in a share.

    By content, so that an image which several tasks show is encoded in one share.
    """
    hashes: dict[str, str] = {}
    for sample in samples:
        # Not one that is context, which all samples may share.
        image = next((each for each in sample.images if not each.context), sample.images[0])
        if image.key not in hashes:
            data = attempt(lambda image: image.read(), image)
            data = image.key.encode() if isinstance(data, Failure) else data
            hashes[image.key] = content_hash(data)
        if shard.has(hashes[image.key]):
            yield sample


def _first(benchmark: Benchmark, limit: int | None) -> tuple[list[Sample], bool]:
    """Return the samples on the first *limit* images, and whether there are no others."""
    where = benchmark.choice.where
    keys: set[str] = set()
    ids: set[str] = set()
    chosen: list[Sample] = []
    with guarded(f"task {benchmark.choice.spec.name!r}", "samples()"):
        for sample in benchmark.task.samples():
            if sample.id in ids:
                raise DataError(f"{where}: two samples have the id {sample.id!r}")
            ids.add(sample.id)
            if not sample.images:
                raise DataError(f"{where}: sample {sample.id!r} has no image")
            shown = {image.key for image in sample.images}
            # One sample is taken in any case, however many images it has.
            if limit is None or not chosen or len(keys | shown) <= limit:
                keys |= shown
                chosen.append(sample)
    if not ids:
        raise DataError(f"{where}: the task has no samples")
    return chosen, len(chosen) == len(ids)


def _asked(sample: Sample, hashes: Mapping[str, str | Failure]) -> Asked:
    found = [hashes[image.key] for image in sample.images]
    failures = [each.reason for each in found if isinstance(each, Failure)]
    images = tuple(None if isinstance(each, Failure) else each for each in found)
    return Asked(sample, images, failures[0] if failures else "")


def _take(
    reference: ImageRef, known: Mapping[str, Picture], pictures: dict[str, Picture]
) -> str | Failure:
    """Read an image file, enter it into *pictures*; return its hash, or why there is none."""
    data = attempt(lambda image: image.read(), reference)
    if isinstance(data, Failure):
        return data
    sha256 = content_hash(data)
    if sha256 not in pictures:
        found = known.get(sha256) or _examine(sha256, data)
        pictures[sha256] = dataclasses.replace(found, read=reference.read)
    return sha256


def _examine(sha256: str, data: bytes) -> Picture:
    """Decode an image once, to learn its size and whether it can be decoded."""
    form = attempt(source_format, data)
    if isinstance(form, Failure):
        return Picture(sha256, len(data), failure=form.reason)
    form = _shared(form)
    image = attempt(read_image, data)
    if isinstance(image, Failure):
        return Picture(sha256, len(data), format=form, failure=image.reason)
    return Picture(sha256, len(data), image.width, image.height, form)


@lru_cache(maxsize=4096)
def _shared(form: SourceFormat) -> SourceFormat:
    """Return the same object for the same format, of which a million images may be."""
    return form
