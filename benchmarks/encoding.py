"""Encoded images per second: a run's encoding step against loops, bare programs and CompressAI.

All ways encode the same JPEG files of one megapixel, each different, at one level, and
write each bitstream to a file of its own.

codec in this process (``--codec jpeg``)
    *loop*: read, decode, ``codec.encode``, write; one process.
    *loops at once*: one such process for each CPU, which know nothing of each other; what
    the machine can do.
    *run*: ``encode_all`` into a store, with as many workers.  Target: 95 % of CPUs x loop.
    *CompressAI*: its wrapper of the same library, one file at a time as its benchmark
    does, without the time that it takes to decode; where it is installed.
codec around a program
    *program*: the encoder alone, on raw files made before; one process after the other.
    *programs at once*: one for each CPU.
    *codec*: the plugin in a loop, which makes these files from the images.
    *run*: as above.  Target: 1.05 times the time of the programs at once.

The programs are those of VTM, HM or VVenC where they are found, else Debian's x265, else
the stand-in that tests use for HM.

Times are of steady work: starting processes does not count.  CPU time is that of all
processes; on a machine that others use too, its ratios are what counts.  All ways are
measured in turn, several times; medians are shown.

    python benchmarks/encoding.py [--codec jpeg] [--level q75] [--images 200] [--rounds 3]
        [--workers N] [--program hm] [--program-images 16]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import itertools
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import x265_program
from lossylens.codec import Codec, CodecPoint, Level
from lossylens.grid.config import CodecChoice, load_config
from lossylens.grid.plan import CodecLevel
from lossylens.images import read_image
from lossylens.images.pixels import source_image
from lossylens.registry.import_paths import import_object
from lossylens.registry.plugins import Registry, load_registry
from lossylens.run.collect import Asked, Material
from lossylens.run.encoding import encode_all
from lossylens.store.database import Store
from lossylens.store.records import Part, Picture
from lossylens.task import ImageRef, Sample
from lossylens.testing.pictures import picture
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.external_codec.program_codec import ProgramCodec
from lossylens_toolkit.external_codec.program_testing import stand_ins
from lossylens_toolkit.external_codec.yuv import Frame, to_raw
from PIL import Image

SIDE = 1024

#: Names of CompressAI's wrappers.
WRAPPERS = {"jpeg": "JPEG", "webp": "WebP"}

#: Plugins around programs, the slowest first.
PROGRAMS = ("vtm", "hm", "vvc-vvenc")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds for each image: by the clock, and of CPU time."""

    clock: float
    cpu: float


#: A way to encode; each call has a number of its own.
Way = Callable[[int], Cost]


def now() -> Cost:
    """Return the time, and the CPU time of this process and all that it has started."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return Cost(time.perf_counter(), cpu + descendants_cpu())


def descendants_cpu() -> float:
    """Return the CPU time of the processes below this one, and of their ended children."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            number = int(path.parent.name)
            parents[number] = int(fields[1])
            ticks[number] = sum(map(int, fields[11:15]))
    family = {os.getpid()}
    while grown := {each for each, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(ticks[each] for each in family - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def per_image(start: Cost, end: Cost, images: int) -> Cost:
    return Cost((end.clock - start.clock) / images, (end.cpu - start.cpu) / images)


class TimedStore(Store):
    """Remembers when the encodings came.

    Args:
        folder: of the run.
        first: from which encoding on the work is steady.
        last: the last encoding.
    """

    def __init__(self, folder: Path, first: int, last: int) -> None:
        super().__init__(folder, writable=True)
        self.first, self.last = first, last
        self.count = 0
        self.times: list[Cost] = []

    def record_encoding(
        self, codec: str, image: str, sha256: str, size: int, seconds: float | None
    ) -> None:
        super().record_encoding(codec, image, sha256, size, seconds)
        self.count += 1
        if self.count in (self.first, self.last):
            self.times.append(now())


def make_files(folder: Path, count: int) -> list[Path]:
    """Write *count* files, of a few pictures that are shifted against each other."""
    pictures = [np.asarray(picture(SIDE, SIDE, seed)) for seed in range(4)]
    paths = []
    for index in range(count):
        shifted = np.roll(pictures[index % len(pictures)], divmod(index, SIDE), axis=(0, 1))
        path = folder / f"{index}.jpg"
        Image.fromarray(shifted).save(path, quality=90)
        paths.append(path)
    return paths


def built(choice: CodecChoice) -> partial[Codec]:
    """Return a function that builds the codec, in whichever process."""
    return partial(build, choice.spec.factory, choice.levels[0], choice.options)


def build(factory: str, level: Level, options: Any) -> Codec:
    return import_object(factory)(level, options)


def loop(make: Callable[[], Codec], files: Sequence[Path], folder: Path) -> tuple[Cost, Cost]:
    """Encode into *folder*; return the times at begin and end."""
    codec = make()
    codec.encode(read_image(files[0].read_bytes()))
    folder.mkdir()
    start = now()
    for path in files:
        image = source_image(path.read_bytes(), parity=False)
        (folder / path.name).write_bytes(codec.encode(image))
    return start, now()


def one_loop(choice: CodecChoice, files: Sequence[Path], folder: Path, number: int) -> Cost:
    start, end = loop(built(choice), files, folder / f"loop-{number}")
    return per_image(start, end, len(files))


def loops_at_once(
    choice: CodecChoice, files: Sequence[Path], folder: Path, workers: int, number: int
) -> Cost:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        # So that all have started.
        list(pool.map(time.sleep, [0.5] * workers))
        shares = [files[index::workers] for index in range(workers)]
        folders = [folder / f"loops-{number}-{index}" for index in range(workers)]
        times = list(pool.map(loop, itertools.repeat(built(choice)), shares, folders))
    clock = max(end.clock for _, end in times) - min(start.clock for start, _ in times)
    cpu = sum(end.cpu - start.cpu for start, end in times)
    return Cost(clock / len(files), cpu / len(files))


def run(
    choice: CodecChoice, files: Sequence[Path], folder: Path, workers: int, number: int
) -> Cost:
    point = CodecPoint(choice.spec.name, choice.levels[0].name, choice.label)
    level = CodecLevel(choice, choice.levels[0], Part("codec", {"name": choice.label}), point)
    pictures = {}
    for path in files:
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        pictures[sha256] = Picture(
            sha256, len(data), SIDE, SIDE, read=partial(Path.read_bytes, path)
        )
    shown = tuple(ImageRef(each, bytes) for each in pictures)
    sample = Sample("0", shown, Question(QuestionKind.CAPTION, ""))
    material = Material({"": (Asked(sample, tuple(pictures)),)}, pictures)
    written = folder / "run.yaml"
    written.write_text("{codecs: {jpeg: }, vlms: {nano: }, tasks: {scenes: }, run: {out: run}}")
    config = load_config(written, [f"run.workers={workers}"])
    executor = config.registry.build_executor(config.executor.spec.name, config.executor.options)
    # By then each worker has done some.
    first = max(2 * workers, len(files) // 10)
    with executor, TimedStore(folder / f"run-{number}", first, len(files)) as store:
        encode_all(config, [level], material, executor, store)
        start, end = store.times
    return per_image(start, end, len(files) - first)


def compressai(wrapper: str, quality: int, files: Sequence[Path], number: int) -> Cost:
    """Measure CompressAI's wrapper, less what it says that decoding took."""
    codecs = importlib.import_module("compressai.utils.bench.codecs")
    codec = getattr(codecs, wrapper)(None)
    spent = []
    for clock in (time.perf_counter, time.process_time):
        with mock.patch.object(codecs, "time", SimpleNamespace(time=clock)):
            start = clock()
            decoding = [codec._run_impl(str(path), quality)[0]["decoding_time"] for path in files]
            spent.append((clock() - start - sum(decoding)) / len(files))
    return Cost(*spent)


def bare_program(
    choice: CodecChoice, files: Sequence[Path], folder: Path, workers: int, number: int
) -> Cost:
    """Run a codec's encoder on raw files, with the codec's own command line, so many at once."""
    codec = built(choice)()
    assert isinstance(codec, ProgramCodec)
    frame = Frame(SIDE, SIDE, codec.options.subsampling, codec.options.input_depth)
    command = [codec.encoder_path, *codec.encoder_arguments(frame)]
    places = [Path(tempfile.mkdtemp(dir=folder)) for _ in files]
    for path, place in zip(files, places, strict=True):
        rgb = np.asarray(read_image(path.read_bytes()))
        (place / "in.yuv").write_bytes(to_raw(rgb, frame, codec.conversion))
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)

    def encode(place: Path) -> None:
        subprocess.run(command, cwd=place, check=True, **quiet)

    start = now()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(encode, places))
    return per_image(start, now(), len(files))


def medians(ways: Mapping[str, Way], rounds: int) -> dict[str, list[Cost]]:
    """Return the costs of each way in each round."""
    found: dict[str, list[Cost]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            found[name].append(way(number))
    return found


def show(title: str, costs: Mapping[str, Sequence[Cost]], ratios: Sequence[Ratio]) -> None:
    print(f"\n{title}")
    print(f"{'':46}{'images/s':>10}{'CPU ms/image':>14}")
    for name, rounds in costs.items():
        clock = statistics.median(cost.clock for cost in rounds)
        cpu = statistics.median(cost.cpu for cost in rounds)
        print(f"{name:46}{1 / clock:10.2f}{1000 * cpu:14.2f}")
    print(f"{'':46}{'by clock':>10}{'by CPU':>14}{'target':>10}")
    for ratio in ratios:
        pairs = list(zip(costs[ratio.base], costs[ratio.name], strict=True))
        clock = statistics.median(base.clock / found.clock for base, found in pairs) / ratio.times
        cpu = statistics.median(base.cpu / found.cpu for base, found in pairs)
        print(f"{ratio.label:46}{clock:10.1%}{cpu:14.1%}{ratio.target:>10}")


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Throughput of one way in that of another, taken so many times."""

    name: str
    base: str
    times: int = 1
    target: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} / {f'{self.times} x ' if self.times > 1 else ''}{self.base}"


def in_process(choice: CodecChoice, files: Sequence[Path], folder: Path, asked: Any) -> None:
    name, workers = choice.spec.name, asked.workers
    loops, many = f"{workers} loops at once", f"run, {workers} workers"
    ways: dict[str, Way] = {
        "loop": partial(one_loop, choice, files, folder),
        loops: partial(loops_at_once, choice, files, folder, workers),
        many: partial(run, choice, files, folder, workers),
    }
    ratios = [
        Ratio(many, "loop", workers, ">= 95 %"),
        Ratio(many, loops),
        Ratio(loops, "loop", workers),
    ]
    quality = choice.levels[0].parameters.get("quality")
    if name in WRAPPERS and quality is not None and importlib.util.find_spec("compressai"):
        ways["CompressAI, one at a time"] = partial(compressai, WRAPPERS[name], int(quality), files)
        ratios.append(Ratio(many, "CompressAI, one at a time", workers))
        ratios.append(Ratio("loop", "CompressAI, one at a time"))
    title = f"{name} {choice.levels[0].name}, {len(files)} images of {SIDE}x{SIDE}"
    show(title, medians(ways, asked.rounds), ratios)


def around_program(choice: CodecChoice, files: Sequence[Path], folder: Path, asked: Any) -> None:
    workers = asked.workers
    programs, many = f"{workers} programs at once", f"run, {workers} workers"
    ways: dict[str, Way] = {
        "program": partial(bare_program, choice, files, folder, 1),
        programs: partial(bare_program, choice, files, folder, workers),
        "codec": partial(one_loop, choice, files, folder),
        many: partial(run, choice, files, folder, workers),
    }
    ratios = [
        Ratio("codec", "program", 1, ">= 95.2 %"),
        Ratio(many, programs, 1, ">= 95.2 %"),
        Ratio(many, "program", workers),
    ]
    title = f"{choice.label} {choice.levels[0].name}, {len(files)} images of {SIDE}x{SIDE}"
    show(title, medians(ways, asked.rounds), ratios)


@contextlib.contextmanager
def program_choice(registry: Registry, asked: str | None, folder: Path) -> Iterator[CodecChoice]:
    """Find a codec around a program that is here."""
    for name in [asked] if asked else PROGRAMS:
        found = registry.find("codec", name)
        options = registry.options(found)
        if asked or not found.spec.requirements(options):
            yield CodecChoice(name, f"codecs.{name}", found, options, found.spec.levels[-1:])
            return
    reference = registry.find("codec", "hm")
    if shutil.which("x265"):
        found = dataclasses.replace(reference, spec=x265_program.SPEC)
        options = registry.options(found)
        yield CodecChoice("x265 (program)", "codecs.x265", found, options, found.spec.levels)
        return
    software = import_object(reference.spec.factory).software
    with stand_ins(folder / "stand-ins", software):
        options = registry.options(reference)
        levels = reference.spec.levels[-1:]
        yield CodecChoice("stand-in for HM", "codecs.hm", reference, options, levels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--codec", default="jpeg")
    parser.add_argument("--level", default="q75")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--program", help="plugin around a program, such as hm")
    parser.add_argument("--program-images", type=int, default=16)
    asked = parser.parse_args()
    registry = load_registry()
    found = registry.find("codec", asked.codec)
    level, options = found.spec.level(asked.level), registry.options(found)
    choice = CodecChoice(found.spec.name, f"codecs.{found.spec.name}", found, options, (level,))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_files(folder, max(asked.images, asked.program_images))
        in_process(choice, files[: asked.images], folder, asked)
        (folder / "external").mkdir()
        with program_choice(registry, asked.program, folder) as external:
            around_program(external, files[: asked.program_images], folder / "external", asked)


if __name__ == "__main__":
    main()
