"""What a worker does of measuring: it decodes an encoding and compares it with its original."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL.Image import Image

from lossylens.errors import ImageError
from lossylens.failure import Failure, attempt
from lossylens.images.pixels import coded_size, decoded_image
from lossylens.registry.fidelity import Fidelity
from lossylens.registry.import_paths import import_object
from lossylens.run.jobs import CodecJob
from lossylens.run.shelf import Shelf
from lossylens.store.bitstreams import read_bitstream


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

    def decoded(self) -> Image:
        """Return what the codec makes of the bitstream.

        Raises:
            ImageError: it is left at another size than the original.
        """
        bitstream = read_bitstream(self.folder, self.bitstream)
        size = coded_size(self.picture.size, self.codec.square)
        image = decoded_image(self.codec.built(), bitstream, size, parity=False)
        if image.size != size:
            raise ImageError(
                f"decoded to {image.width}x{image.height}, not the {size[0]}x{size[1]} of its"
                " original, so that the two cannot be compared"
            )
        return image


@dataclass(frozen=True)
class Measured:
    """What was measured, by metric, or why it was not; and how many seconds that took.

    A metric of sets has no value here; its features are on the shelf.
    """

    values: Mapping[str, float | Failure]
    spent: float


def measure(job: MeasureJob) -> Measured:
    """Do one job.

    Raises:
        Exception: whatever reading or decoding raises.
    """
    start = time.perf_counter()
    key, image = job.codec.key, job.picture.sha256
    values: dict[str, float | Failure] = {**job.shelf.found(key, image, job.metrics)}
    lacking = [metric for metric in job.metrics if metric.name not in values]
    if lacking:
        pictures = (job.original(), job.decoded())
        fresh: dict[Fidelity, float] = {}
        for metric in lacking:
            value = attempt(partial(_measure, job, metric), pictures)
            if isinstance(value, Failure):
                values[metric.name] = value
            elif value is not None:
                values[metric.name] = fresh[metric] = value
        job.shelf.share(key, image, fresh)
    return Measured(values, time.perf_counter() - start)


def _measure(job: MeasureJob, metric: Fidelity, pictures: tuple[Image, Image]) -> float | None:
    """Return one metric, None where what it needs of an image is kept."""
    function = _function(metric.factory)
    if metric.per_set:
        job.shelf.keep_features(metric, job.codec.key, job.picture.sha256, pictures, function)
        return None
    return float(function(*pictures))


@lru_cache
def _function(factory: str) -> Callable[..., Any]:
    function: Callable[..., Any] = import_object(factory)()
    return function
