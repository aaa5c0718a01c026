"""The last step of a run, on request: how far decoded images are from their originals.

Compared are what the codec was given and what it gave back; steps that come before the
one or after the other (``run.evaluator_parity``) are no part of it.  Each encoding is
decoded and measured once, and each metric stored with the method that decides its
values, so that a metric that is added later needs nothing else again.

The FID is of all images of a task.  The features that it is made of are kept one by
one, in ``run.cache`` if there is one and else in the run folder, so that a run that is
killed repeats nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL.Image import Image

from lossylens.errors import StoreError
from lossylens.executor import Executor, Resources
from lossylens.failure import Failure, attempt
from lossylens.grid.config import Config
from lossylens.grid.plan import CodecLevel, Plan
from lossylens.images.pixels import decoded_image
from lossylens.registry.fidelity import FIDELITIES, Fidelity
from lossylens.registry.import_paths import import_object
from lossylens.run.collect import Material
from lossylens.run.jobs import CodecJob, JobByJob, backlogs, count_images, run_works
from lossylens.run.progress import progress
from lossylens.run.schedule import ImageWork
from lossylens.store.bitstreams import read_bitstream
from lossylens.store.database import Store
from lossylens.store.jsonable import short_hash
from lossylens.store.records import StoredFidelity, StoredSetFidelity
from lossylens.store.sharing import SharedBitstreams

#: Values of an encoding by metric, or why there are none.
Values = Mapping[str, float | Failure]


@dataclass(frozen=True)
class Shelf:
    """Where values and features are found that need not be computed again.

    Attributes:
        values: of other runs; None to share none.
        features: of this run and others.
    """

    values: SharedBitstreams | None
    features: SharedBitstreams

    @classmethod
    def of(cls, config: Config) -> Shelf:
        """Return that of a run."""
        cache = config.run.cache
        if cache is None:
            return cls(None, SharedBitstreams(config.run.out, "features", "run.out"))
        return cls(SharedBitstreams(cache, "fidelity"), SharedBitstreams(cache, "features"))


@dataclass(frozen=True)
class MeasureJob(CodecJob):
    """An encoding to be measured.

    Attributes:
        folder, bitstream: the run folder, and the hash of the bitstream in it.
        metrics: what is to be measured.
        shelf: what is there already.
    """

    folder: Path
    bitstream: str
    metrics: tuple[Fidelity, ...]
    shelf: Shelf


@dataclass(frozen=True)
class Measured:
    """What was measured, and how many seconds that took."""

    values: Values
    spent: float


def measure_all(
    config: Config,
    plan: Plan,
    material: Material,
    executor: Executor[Any, Any],
    store: Store,
) -> None:
    """Measure what is not in the store; each encoding is stored as it comes.

    Raises:
        LossylensError: a metric or codec cannot work at all, or the store cannot be
            written.
    """
    metrics = [FIDELITIES[name] for name in config.run.fidelity]
    shelf = Shelf.of(config)
    pending = {
        codec.part.key: _pending(codec, metrics, plan, material, store, shelf)
        for codec in plan.codecs
        if codec.encodes
    }
    works = backlogs(plan.codecs, material.pictures.values(), pending)
    _measure_images(config, works, pending, executor, store, shelf)
    for metric in metrics:
        if metric.per_set:
            _measure_sets(config, metric, plan, material, store, shelf)


def _pending(
    codec: CodecLevel,
    metrics: Iterable[Fidelity],
    plan: Plan,
    material: Material,
    store: Store,
    shelf: Shelf,
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return bitstream and metrics that are to be measured, by image."""
    key = codec.part.key
    done = store.fidelities(key)
    lacking: dict[str, list[str]] = {}
    streams = {
        image: each.bitstream
        for image, each in store.encodings(key).items()
        if each.bitstream and image in material.pictures
    }
    for metric in metrics:
        images: Iterable[str] = streams
        if metric.per_set:
            images = _lacking_features(metric, codec, plan, material, store, shelf)
        for image in images:
            if (metric.name, metric.method) not in done.get(image, ()):
                lacking.setdefault(image, []).append(metric.name)
    return {image: (streams[image], tuple(names)) for image, names in lacking.items()}


def _measure_images(
    config: Config,
    works: list[list[ImageWork]],
    pending: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]],
    executor: Executor[Any, Any],
    store: Store,
    shelf: Shelf,
) -> None:
    count = count_images(works)
    if not count:
        return

    def job(work: ImageWork, codec: CodecLevel) -> MeasureJob:
        bitstream, metrics = pending[codec.part.key][work.picture.sha256]
        return MeasureJob.of(
            codec,
            work.picture,
            config.run.evaluator_parity,
            folder=config.run.out,
            bitstream=bitstream,
            metrics=tuple(FIDELITIES[name] for name in metrics),
            shelf=shelf,
        )

    def jobs(works: Iterable[ImageWork]) -> list[MeasureJob]:
        return [job(work, codec) for work in works for codec in work.codecs]

    with progress("Measuring fidelity", count, "images") as step:
        resources = Resources(workers=config.workers, threads=1, memory=config.memory)
        recipe = JobByJob(measure, "measuring fidelity")
        for done, result in run_works(executor, recipe, jobs, works, resources):
            values: Values
            if isinstance(result, Failure):
                values = {metric.name: result for metric in done.metrics}
            else:
                values = result.values
            store.add_fidelities(
                [
                    _record(done, metric, values[metric.name])
                    for metric in done.metrics
                    if metric.name in values
                ]
            )
            step.advance()


def _record(job: MeasureJob, metric: Fidelity, value: float | Failure) -> StoredFidelity:
    known = (job.codec.key, job.picture.sha256, metric.name, metric.method)
    if isinstance(value, Failure):
        return StoredFidelity(*known, None, value.reason)
    return StoredFidelity(*known, value)


def measure(job: MeasureJob) -> Measured:
    """Do one job.

    Raises:
        Exception: whatever reading, decoding or a metric raises.
    """
    start = time.perf_counter()
    found = _found(job)
    lacking = [metric for metric in job.metrics if metric.name not in found]
    if lacking:
        decoded = _decoded(job)
        original = job.original()
        for metric in lacking:
            value = attempt(_measure, (job, metric, original, decoded))
            if value is not None:
                found[metric.name] = value
        _share(job, found)
    return Measured(found, time.perf_counter() - start)


def _measure(what: tuple[MeasureJob, Fidelity, Image, Image]) -> float | None:
    """Return one metric, None where what it needs of an image is kept."""
    job, metric, original, decoded = what
    if metric.per_set:
        _keep_features(job, metric, original, decoded)
        return None
    return float(_function(metric.factory)(original, decoded))


def _decoded(job: MeasureJob) -> Image:
    bitstream = read_bitstream(job.folder, job.bitstream)
    return decoded_image(job.codec.built(), bitstream, job.picture.size, parity=False)


def _found(job: MeasureJob) -> dict[str, float | Failure]:
    """Return what other runs have measured of what is asked."""
    stored = _shared_values(job)
    methods = {metric.name: metric.method for metric in job.metrics}
    return {
        name: float(stored[name][1])
        for name, method in methods.items()
        if name in stored and stored[name][0] == method
    }


def _shared_values(job: MeasureJob) -> dict[str, Any]:
    """Return method and value by metric."""
    shared = job.shelf.values
    entry = shared.get(job.codec.key, job.picture.sha256) if shared else None
    return dict(json.loads(entry)) if entry else {}


def _share(job: MeasureJob, values: Values) -> None:
    """Add *values* to what other runs can use; of two that add at once, one is lost."""
    if job.shelf.values is None:
        return
    methods = {metric.name: metric.method for metric in job.metrics}
    fresh = {
        name: [methods[name], value]
        for name, value in values.items()
        if not isinstance(value, Failure)
    }
    if fresh:
        entry = json.dumps(_shared_values(job) | fresh).encode()
        job.shelf.values.put(job.codec.key, job.picture.sha256, entry)


@lru_cache(maxsize=len(FIDELITIES))
def _function(factory: str) -> Callable[..., Any]:
    function: Callable[..., Any] = import_object(factory)()
    return function


# Sets


def _features_key(metric: Fidelity, codec: str, parity: bool) -> str:
    """Return where features are kept; *codec* is ``""`` for those of the originals."""
    # What a codec's key says, the original's does not.
    return short_hash([metric.method, codec or ["original", parity]])


def _keep_features(job: MeasureJob, metric: Fidelity, original: Image, decoded: Image) -> None:
    image = job.picture.sha256
    for codec, picture in (("", original), (job.codec.key, decoded)):
        key = _features_key(metric, codec, job.parity)
        if job.shelf.features.get(key, image) is None:
            job.shelf.features.put(key, image, _function(metric.factory)(picture).tobytes())


def _members(
    metric: Fidelity, codec: CodecLevel, task: str, material: Material, store: Store
) -> tuple[str, ...]:
    """Return the images of a task that could be encoded, and decoded as far as is known."""
    encodings = store.encodings(codec.part.key)
    done = store.fidelities(codec.part.key)
    used = {image for each in material.samples[task] for image in each.compressed}
    return tuple(
        image
        for image in sorted(used)
        if image in encodings
        and encodings[image].bitstream
        and (metric.name, metric.method) not in done.get(image, ())
    )


def _sets(
    metric: Fidelity, codec: CodecLevel, plan: Plan, material: Material, store: Store
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield task, images and their hash, of sets that are not measured yet."""
    for benchmark in plan.benchmarks:
        task = benchmark.part.key
        members = _members(metric, codec, task, material, store)
        inputs = short_hash([metric.method, members])
        if store.set_fidelity_inputs(codec.part.key, task, metric.name) != inputs:
            yield task, members, inputs


def _lacking_features(
    metric: Fidelity,
    codec: CodecLevel,
    plan: Plan,
    material: Material,
    store: Store,
    shelf: Shelf,
) -> set[str]:
    """Return the images without features, in sets that are not measured yet."""
    parity = codec.part.description["evaluator_parity"]
    keys = [_features_key(metric, each, parity) for each in ("", codec.part.key)]
    return {
        image
        for _, members, _ in _sets(metric, codec, plan, material, store)
        for image in members
        if any(shelf.features.get(key, image) is None for key in keys)
    }


def _measure_sets(
    config: Config,
    metric: Fidelity,
    plan: Plan,
    material: Material,
    store: Store,
    shelf: Shelf,
) -> None:
    pending = [
        (codec, *each)
        for codec in plan.codecs
        if codec.encodes
        for each in _sets(metric, codec, plan, material, store)
    ]
    if not pending:
        return
    with progress(f"Computing {metric.title}", len(pending), "sets") as step:
        for codec, task, members, inputs in pending:
            value = _distance(metric, codec.part.key, members, config, shelf)
            key = codec.part.key
            store.set_set_fidelity(
                StoredSetFidelity(key, task, metric.name, inputs, value, len(members))
            )
            step.advance()


def _distance(
    metric: Fidelity, codec: str, images: Sequence[str], config: Config, shelf: Shelf
) -> float | None:
    """Return the distance of decoded and original images; None for fewer than two."""
    import numpy as np

    from lossylens.run.picture_distances import frechet_distance

    if len(images) < 2:
        return None
    sets = []
    for each in ("", codec):
        key = _features_key(metric, each, config.run.evaluator_parity)
        found = [shelf.features.get(key, image) for image in images]
        if None in found:
            raise StoreError("features are gone from run.cache; run the same command again")
        sets.append(np.stack([np.frombuffer(each or b"", np.float32) for each in found]))
    return frechet_distance(sets[0], sets[1])
