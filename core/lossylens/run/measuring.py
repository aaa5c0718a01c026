"""The last step of a run, on request: how far decoded images are from their originals.

Compared are what the codec was given and what it gave back; steps that come before the
one or after the other (``run.evaluator_parity``) are no part of it.  Each encoding is
decoded and measured once, and each metric stored with the method that decides its
values, so that a metric that is added later needs nothing else again.

The FID is of all images of a task.  The features that it is made of are kept one by
one, so that a run that is killed repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lossylens.executor import Executor, Resources
from lossylens.failure import Failure
from lossylens.grid.config import Config
from lossylens.grid.plan import CodecLevel, Plan
from lossylens.registry.fidelity import FIDELITIES, Fidelity
from lossylens.run.collect import Material
from lossylens.run.jobs import JobByJob, backlogs, closing_workers, count_images, run_works
from lossylens.run.measure_jobs import MeasureJob, measure
from lossylens.run.progress import progress
from lossylens.run.schedule import ImageWork
from lossylens.run.shelf import Shelf
from lossylens.store.database import Store
from lossylens.store.jsonable import short_hash
from lossylens.store.records import StoredFidelity, StoredSetFidelity


class ImageSet(NamedTuple):
    """The decoded images of a task that a metric compares with their originals.

    Attributes:
        codec, task: keys.
        images: hashes.
        inputs: hash of the method and the images.
    """

    codec: str
    task: str
    images: tuple[str, ...]
    inputs: str


class Measuring:
    """What a run measures, as far as it is not in the store; each value is stored as it comes."""

    def __init__(self, config: Config, plan: Plan, material: Material, store: Store) -> None:
        self._config, self._plan = config, plan
        self._material, self._store = material, store
        self._metrics = [FIDELITIES[name] for name in config.run.fidelity]
        self._codecs = [codec for codec in plan.codecs if codec.encodes]
        self._shelf = Shelf.of(config)

    def measure(self, executor: Executor[Any, Any]) -> None:
        """Measure all encodings, and then all sets of them.

        Raises:
            LossylensError: a metric or codec cannot work at all, or the store cannot be
                written.
        """
        self._measure_images(executor)
        for metric in self._metrics:
            # A set is of all images of a task.
            if metric.per_set and not self._config.shard:
                self._measure_sets(metric)

    def _measure_images(self, executor: Executor[Any, Any]) -> None:
        lacking = {codec.part.key: self._lacking(codec) for codec in self._codecs}
        pictures = self._material.pictures.values()
        works = backlogs(self._codecs, pictures, lambda key, image: image in lacking[key])
        count = count_images(works)
        if not count:
            return
        bitstreams = {key: self._bitstreams(key) for key in lacking}
        run = self._config.run

        def job(work: ImageWork, codec: CodecLevel) -> MeasureJob:
            key, image = codec.part.key, work.picture.sha256
            return MeasureJob.of(
                codec,
                work.picture,
                run.evaluator_parity,
                folder=run.out,
                bitstream=bitstreams[key][image],
                metrics=lacking[key][image],
                shelf=self._shelf,
            )

        def jobs(works: Sequence[ImageWork]) -> list[MeasureJob]:
            return [job(work, codec) for work in works for codec in work.codecs]

        on_device = any(codec.wants_device for codec in self._codecs)
        resources = Resources(
            workers=run.workers,
            threads=None if on_device else 1,
            gpus=1 if on_device else 0,
            seconds=run.timeout,
            memory=self._config.memory,
        )
        recipe = JobByJob(measure, "measuring fidelity")
        results = run_works(executor, recipe, jobs, works, resources)
        with progress("Measuring fidelity", count, "images") as step, closing_workers(results):
            for done, result in results:
                values = result if isinstance(result, Failure) else result.values
                self._store.add_fidelities(list(_records(done, values)))
                step.advance()

    def _bitstreams(self, codec: str) -> dict[str, str]:
        """Return the bitstreams of the run's images, by image."""
        return {
            image: each.bitstream
            for image, each in self._store.encodings(codec).items()
            if each.bitstream and image in self._material.pictures
        }

    def _lacking(self, codec: CodecLevel) -> dict[str, tuple[Fidelity, ...]]:
        """Return what is to be measured, by image."""
        key = codec.part.key
        done = self._store.fidelities(key)
        lacking: dict[str, tuple[Fidelity, ...]] = {}
        for metric in self._metrics:
            images: Iterable[str] = self._bitstreams(key)
            if metric.per_set:
                images = self._lacking_features(metric, key)
            for image in images:
                if (metric.name, metric.method) not in done.get(image, ()):
                    lacking[image] = (*lacking.get(image, ()), metric)
        return lacking

    def _lacking_features(self, metric: Fidelity, codec: str) -> list[str]:
        """Return the images without features, in sets that are not measured yet."""
        members = dict.fromkeys(
            each for found in self._sets(metric, codec) for each in found.images
        )
        return [each for each in members if not self._shelf.has_features(metric, codec, each)]

    def _sets(self, metric: Fidelity, codec: str) -> Iterator[ImageSet]:
        """Yield the sets of a codec that are not measured yet."""
        for benchmark in self._plan.benchmarks:
            task = benchmark.part.key
            images = self._members(metric, codec, task)
            found = ImageSet(codec, task, images, short_hash([metric.method, images]))
            if self._store.set_fidelity_inputs(codec, task, metric.name) != found.inputs:
                yield found

    def _members(self, metric: Fidelity, codec: str, task: str) -> tuple[str, ...]:
        """Return the images of a task that could be encoded, and decoded as far as is known."""
        bitstreams, done = self._bitstreams(codec), self._store.fidelities(codec)
        used = {image for each in self._material.samples[task] for image in each.compressed}
        # What is there of a metric of sets is why it failed.
        failed = {image for image in used if (metric.name, metric.method) in done.get(image, ())}
        return tuple(sorted((used & bitstreams.keys()) - failed))

    def _measure_sets(self, metric: Fidelity) -> None:
        lacking = [each for codec in self._codecs for each in self._sets(metric, codec.part.key)]
        if not lacking:
            return
        with progress(f"Computing {metric.title}", len(lacking), "sets") as step:
            for each in lacking:
                value = self._distance(metric, each)
                self._store.set_set_fidelity(
                    StoredSetFidelity(
                        each.codec, each.task, metric.name, each.inputs, value, len(each.images)
                    )
                )
                step.advance()

    def _distance(self, metric: Fidelity, compared: ImageSet) -> float | None:
        """Return the distance of decoded and original images; None for fewer than two."""
        from lossylens.run.picture_distances import frechet_distance

        if len(compared.images) < 2:
            return None
        return frechet_distance(*self._shelf.feature_sets(metric, compared.codec, compared.images))


def _records(
    job: MeasureJob, values: Mapping[str, float | Failure] | Failure
) -> Iterator[StoredFidelity]:
    """Yield what is to be stored of a job; a failure is that of all its metrics."""
    for metric in job.metrics:
        value = values if isinstance(values, Failure) else values.get(metric.name)
        known = (job.codec.key, job.picture.sha256, metric.name, metric.method)
        if isinstance(value, Failure):
            yield StoredFidelity(*known, None, value.reason)
        elif value is not None:
            yield StoredFidelity(*known, value)
