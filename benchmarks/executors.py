"""What handing out work costs: ``local`` and ``ray`` against a bare loop, and the driver's limit.

*overhead*: jobs of 1 ms, 10 ms and 1 s of CPU time in one worker, beside the same jobs in a
loop.  Overhead is the CPU time of driver and worker above that of the loop, per job; efficiency
is the loop's CPU time by that of the worker alone, which is what an idle driver's CPU leaves.
CPU times, since the machine may be shared; the start of processes does not count.  Target of
``local``: 95 % at 10 ms.

*driver*: jobs that do nothing, in one worker; the CPU time of the driver per result, with that
of keeping the result in a store, gives the most results per second that one driver can deal
with.  Target: 2000.  A grid of ``--encodings`` and ``--answers`` by workers that take
``--seconds`` for each then says how many workers keep one driver busy.

*memory*: what a million pending jobs add to the driver: images at 20 levels, and as many images
at one; with what is known of each image, and without the samples of the task, which are there
whether or not anything is to be done.  Target: 500 MB.

    python benchmarks/executors.py [--ray] [--jobs 300] [--no-memory]

``--ray`` starts a cluster of one node of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from lossylens.executor import Executor, Resources
from lossylens.images import SourceFormat
from lossylens.run.collect import Asked, Material
from lossylens.run.encoding import pending_encodings
from lossylens.run.executors.local import LocalExecutor
from lossylens.run.jobs import JobByJob
from lossylens.run.schedule import Schedule
from lossylens.store.database import Store
from lossylens.store.records import Picture, Prediction, Timing
from lossylens.task import ImageRef, Sample
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.tsv_task.place import Place
from lossylens_toolkit.tsv_task.tsv_images import ImageFile

DURATIONS = (0.001, 0.01, 1.0)


def spin(seconds: float) -> float:
    """Use so much CPU time; return that of this process since it began."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return time.process_time()


def loop(seconds: float, count: int) -> float:
    """Return the CPU time of a loop."""
    start = time.process_time()
    for _ in range(count):
        spin(seconds)
    return time.process_time() - start


def handed_out(
    executor: Executor[Any, Any], seconds: float, count: int
) -> tuple[float, float, float]:
    """Return the CPU times of driver, worker, and of an actor around it, after the start."""
    # As workers import it; the script itself is no module to them.
    recipe = JobByJob(importlib.import_module("executors").spin, "spinning")
    resources = Resources(workers=1, threads=1, kept=True)
    size = max(1, min(64, int(0.25 / max(seconds, 1e-4))))
    [(_, begun)] = executor.run(recipe, [[0.0]], resources)
    actors = [] if executor.shares_folder else _below("ray::NodeWorker")
    before, driver = sum(map(_cpu, actors)), time.process_time()
    jobs = [seconds] * count
    chunks = (jobs[first : first + size] for first in range(0, count, size))
    *_, (_, ended) = executor.run(recipe, chunks, resources)
    driver = time.process_time() - driver
    return driver, ended - begun, sum(map(_cpu, actors)) - before


def _below(mark: str) -> list[psutil.Process]:
    """Return the processes below this one that are called so."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if mark in " ".join(each.cmdline()):
                found.append(each)
    return found


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def overhead(name: str, executor: Executor[Any, Any], jobs: int) -> None:
    for seconds in DURATIONS:
        count = max(3, min(jobs, int(3 / seconds)))
        bare = loop(seconds, count)
        driver, worker, actor = handed_out(executor, seconds, count)
        print(
            f"{name}, jobs of {1000 * seconds:g} ms, {count}: overhead per job"
            f" {1e6 * (driver + worker + actor - bare) / count:.0f} us"
            f" (driver {1e6 * driver / count:.0f}, actor {1e6 * actor / count:.0f});"
            f" efficiency {100 * bare / (worker + actor):.1f} %",
            flush=True,
        )


def per_result(executor: Executor[Any, Any], jobs: int) -> float:
    """Return the driver's CPU time for a result of jobs that do nothing."""
    driver, _, _ = handed_out(executor, 0.0, jobs)
    return driver / jobs


def per_row(count: int) -> tuple[float, float]:
    """Return the driver's CPU time of keeping an encoding, and the answer to a question."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder) / "run", writable=True) as kept,
    ):
        start = time.process_time()
        for number in range(count):
            kept.record_encoding("codec", f"{number:064x}", "f" * 64, 1000, 0.1)
        middle = time.process_time()
        for number in range(count):
            row = Prediction("cell", str(number), "yes", usage={"output_tokens": 1})
            kept.add_predictions([row], [Timing("answer", "vlm", 1, 0.1)])
        end = time.process_time()
    return (middle - start) / count, (end - middle) / count


def limit(name: str, each: float, arguments: argparse.Namespace) -> None:
    encoding, answer = per_row(2000)
    costs = (each + encoding, each + answer)
    rates = [1 / cost for cost in costs]
    work = (arguments.encodings, arguments.answers)
    busy = sum(count * cost for count, cost in zip(work, costs, strict=True))
    whole = sum(count * seconds for count, seconds in zip(work, arguments.seconds, strict=True))
    print(
        f"{name}, driver: {1e6 * each:.0f} us per result, {1e6 * encoding:.0f} to keep an encoding,"
        f" {1e6 * answer:.0f} an answer: at most {rates[0]:.0f} encodings or {rates[1]:.0f}"
        f" answers per second; with {arguments.seconds[0]:g} s per encoding and"
        f" {arguments.seconds[1]:g} s per answer, {whole / busy:.0f} workers keep it busy",
        flush=True,
    )


def pending(images: int, levels: int) -> tuple[float, float]:
    """Return the megabytes that pending jobs add to this process, and those of their task."""
    codecs = [_level(number) for number in range(levels)]
    start = _resident()
    references = [_reference(number) for number in range(images)]
    before = _resident()
    pictures = dict(_pictures(references))
    sample = Sample("0", (), Question(QuestionKind.CAPTION, ""))
    material = Material({"task": (_Shown(sample, tuple(pictures)),)}, pictures, {})
    nothing: Any = SimpleNamespace(encoded=lambda key: set())
    schedule = Schedule(pending_encodings(codecs, material, nothing), 100)
    chunks = iter(schedule)
    drawn = sum(len(next(chunks)) for _ in range(100))
    assert drawn >= 100
    grown = _resident() - before
    assert len(material.pictures) == len(references) == images
    return grown / 1e6, (before - start) / 1e6


class _Shown(Asked):
    """One sample that shows all images, since there may be any number of questions."""

    @property
    def compressed(self) -> tuple[str, ...]:
        return tuple(each for each in self.images if each)


def _resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _level(number: int) -> Any:
    return SimpleNamespace(
        choice=SimpleNamespace(where="codecs.jpeg"),
        part=SimpleNamespace(key=f"level{number}"),
        encodes=True,
    )


def _reference(number: int) -> ImageRef:
    """Return an image as a file that a TSV file names."""
    name = f"train2017/{number:012d}.jpg"
    place = Place(str(_TABLE), number, str(number), "image_path")
    return ImageRef(name, ImageFile(name, _TABLE, "COCO", place))


_TABLE = Path("/data/tasks/task.tsv")


def _pictures(references: Sequence[ImageRef]) -> Iterator[tuple[str, Picture]]:
    """Yield what is known of the images: a thousand sizes, none with the content of another."""
    for number, reference in enumerate(references):
        name = hashlib.sha256(reference.key.encode()).hexdigest()
        form = _form(300 + number % 40, 300 + number // 40 % 25)
        size = form.width, form.height
        yield name, Picture(name, 150_000 + number, *size, form, read=reference.read)


@lru_cache(maxsize=1000)
def _form(width: int, height: int) -> SourceFormat:
    return SourceFormat("JPEG", "RGB", 8, width, height, False, 1, 90, True, "4:2:0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--encodings", type=float, default=1.2e6)
    parser.add_argument("--answers", type=float, default=2.2e7)
    parser.add_argument("--seconds", type=float, nargs=2, default=(10.0, 0.5))
    arguments = parser.parse_args()
    for images, levels in () if arguments.no_memory else ((50_000, 20), (1_000_000, 1)):
        grown, task = pending(images, levels)
        print(
            f"memory: {images} images at {levels} levels pending: {grown:.0f} MB,"
            f" beside {task:.0f} MB of the task that names them",
            flush=True,
        )
    with LocalExecutor() as local:
        overhead("local", local, arguments.jobs)
        limit("local", per_result(local, 10 * arguments.jobs), arguments)
    if arguments.ray:
        from lossylens_executor_ray.executor import RayExecutor
        from lossylens_executor_ray.plugin import RayOptions

        with RayExecutor(RayOptions(address="local")) as remote:
            overhead("ray", remote, arguments.jobs)
            limit("ray", per_result(remote, 10 * arguments.jobs), arguments)


if __name__ == "__main__":
    main()
