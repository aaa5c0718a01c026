"""Encoded images per second: a run's encoding step against a plain loop, and CompressAI's codecs.

All ways encode the same photograph-like JPEG files of one megapixel, each different,
at one level, and write the bitstreams to disk:

loop
    read, decode, ``codec.encode``, write; one process.
run
    ``encode_all`` into a store, with one process for each usable CPU; timed from the
    first result on, so that starting the processes does not count.
CompressAI
    its wrapper of the same library, one file at a time as its benchmark does, without
    the time that it takes to decode; where it is installed.

The target is ``run`` at 95 % of CPUs x ``loop``.  CPU time of all processes for each
image stands beside it: on a machine that others use too, its ratio is what counts.

    python benchmarks/encoding.py [--codec jpeg] [--level q75] [--images 300] [--workers N]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lossylens.codec import Codec
from lossylens.collect import Material, Picture
from lossylens.config import CodecChoice
from lossylens.encoding import encode_all
from lossylens.images import read_image
from lossylens.pixels import source_image
from lossylens.plan import CodecLevel, Part, Plan
from lossylens.plugins import load_registry
from lossylens.store import Store
from lossylens.testing.pictures import picture

SIDE = 1024

#: Names of CompressAI's wrappers.
WRAPPERS = {"jpeg": "JPEG", "webp": "WebP"}


class TimedStore(Store):
    """Remembers when the first encodings came."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, writable=True)
        self.times: list[float] = []

    def add_encoding(self, codec: str, image: str, bitstream: bytes, seconds: float | None) -> None:
        super().add_encoding(codec, image, bitstream, seconds)
        self.times.append(time.perf_counter())


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it has started and that ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def make_files(folder: Path, count: int) -> list[Path]:
    """Write *count* files: a few pictures, told apart by a comment."""
    contents = []
    for seed in range(4):
        buffer = io.BytesIO()
        picture(SIDE, SIDE, seed).save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    paths = []
    for index in range(count):
        data = contents[index % len(contents)]
        comment = index.to_bytes(4, "big")
        path = folder / f"{index}.jpg"
        path.write_bytes(data[:2] + b"\xff\xfe\0\6" + comment + data[2:])
        paths.append(path)
    return paths


def loop(codec: Codec, files: Sequence[Path], folder: Path) -> tuple[float, float]:
    """Return seconds and CPU seconds for each image."""
    folder.mkdir()
    cpu, start = cpu_seconds(), time.perf_counter()
    for path in files:
        image = source_image(path.read_bytes(), parity=False)
        (folder / path.name).write_bytes(codec.encode(image))
    return (time.perf_counter() - start) / len(files), (cpu_seconds() - cpu) / len(files)


def run(
    choice: CodecChoice, files: Sequence[Path], folder: Path, workers: int
) -> tuple[float, float]:
    """Return seconds and CPU seconds for each image, those of starting left out."""
    level = CodecLevel(choice, choice.levels[0], Part("codec", {"name": choice.label}))
    pictures = {}
    for path in files:
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        pictures[sha256] = Picture(
            sha256, len(data), SIDE, SIDE, read=partial(Path.read_bytes, path)
        )
    plan, material = Plan((level,), (), ()), Material({}, pictures)
    encode = partial(encode_all, plan, workers=workers, parity=False)
    with TimedStore(folder / "starting") as store:
        cpu = cpu_seconds()
        encode(Material({}, dict(list(pictures.items())[:workers])), store)
        starting = cpu_seconds() - cpu
    with TimedStore(folder / "run") as store:
        cpu = cpu_seconds()
        encode(material, store)
        spent = cpu_seconds() - cpu
        # Once each worker has answered, all have started.
        times = store.times[workers - 1 :]
        seconds = (times[-1] - times[0]) / (len(times) - 1)
    return seconds, (spent - starting) / (len(files) - workers)


def one_at_a_time(wrapper: str, quality: int, files: Sequence[Path]) -> float:
    """Return the seconds for each image of CompressAI's wrapper, those of decoding left out."""
    codecs = importlib.import_module("compressai.utils.bench.codecs")
    codec = getattr(codecs, wrapper)(None)
    decoding = 0.0
    start = time.perf_counter()
    for path in files:
        found, _ = codec._run_impl(str(path), quality)
        decoding += found["decoding_time"]
    return (time.perf_counter() - start - decoding) / len(files)


def show(name: str, seconds: float, cpu: float | None = None) -> None:
    taken = "" if cpu is None else f"   {1000 * cpu:7.2f} ms CPU each"
    print(f"{name:28} {1 / seconds:8.1f} images/s{taken}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--codec", default="jpeg")
    parser.add_argument("--level", default="q75")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    registry = load_registry()
    found = registry.find("codec", arguments.codec)
    level = found.spec.level(arguments.level)
    options = registry.options(found)
    codec = registry.build_codec(found.spec.name, level, options)
    choice = CodecChoice(found.spec.name, f"codecs.{found.spec.name}", found, options, (level,))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_files(folder, arguments.images)
        codec.encode(read_image(files[0].read_bytes()))
        plain = loop(codec, files, folder / "loop")
        many = run(choice, files, folder, arguments.workers)
        print(f"{found.spec.name} {level.name}, {len(files)} images of {SIDE}x{SIDE}")
        show("loop, 1 process", *plain)
        show(f"run, {arguments.workers} processes", *many)
        share = plain[0] / many[0] / arguments.workers
        print(f"of CPUs x loop: {share:.1%} by the clock, {plain[1] / many[1]:.1%} by CPU time")
        compare(found.spec.name, level.parameters.get("quality"), files, many)


def compare(name: str, quality: object, files: Sequence[Path], many: tuple[float, float]) -> None:
    if name not in WRAPPERS or not isinstance(quality, int):
        print("CompressAI: has no wrapper of this codec")
    elif importlib.util.find_spec("compressai") is None:
        print("CompressAI: not installed")
    else:
        theirs = one_at_a_time(WRAPPERS[name], quality, files)
        show("CompressAI, one at a time", theirs)
        print(f"run / CompressAI: {theirs / many[0]:.2f}")


if __name__ == "__main__":
    main()
