"""Oracle guidance maps of scenes, and what guidance costs in time.

python benchmarks/cotam_guidance.py maps scenes.json --images 60 --seed 11 --size 256
python benchmarks/cotam_guidance.py time --images 8

``maps`` writes, for codec ``cotam-elic`` with ``guidance: maps``, which cells of a scene show
an object or a word: these are coded better, the others worse.  ``time`` prints seconds for a
picture, encoded and decoded with CLIP's guidance and without, in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from lossylens.registry.plugins import load_registry
from lossylens_codec_cotam.guidance_map import CELLS, Steps, picture_key, write_maps
from lossylens_task_scenes.options import ScenesOptions
from lossylens_task_scenes.scene import Scene, make_scene
from lossylens_task_scenes.task import ScenesTask
from PIL import Image


def oracle(scene: Scene) -> Steps:
    """Return a map of what a scene shows."""
    steps = np.full((CELLS, CELLS), -1, np.int8)
    for thing in (*scene.objects, *scene.words):
        left, top, right, bottom = (
            CELLS * side / length
            for side, length in zip(thing.box, (scene.width, scene.height) * 2, strict=True)
        )
        rows = slice(max(0, int(top)), int(np.ceil(bottom)))
        steps[rows, max(0, int(left)) : int(np.ceil(right))] = 1
    return steps


def pictures(options: ScenesOptions) -> dict[str, Image.Image]:
    """Return the scenes by name."""
    found = {}
    for sample in ScenesTask(options).samples():
        for image in sample.images:
            if image.key not in found:
                found[image.key] = Image.open(BytesIO(image.read())).convert("RGB")
    return found


def write(path: Path, options: ScenesOptions) -> None:
    """Write the maps of all scenes."""
    maps = {}
    for name, picture in pictures(options).items():
        index = int(name.partition("-")[2])
        scene = make_scene(options.seed, index, options.size, options.photographs)  # type: ignore[arg-type]
        maps[picture_key(picture)] = oracle(scene)
    write_maps(path, maps)


def seconds(work: Callable[[], object]) -> float:
    """Return how much of the processor some work takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def measure(options: ScenesOptions) -> None:
    """Print the times."""
    registry = load_registry()
    given = {"variant": "nano", "device": "cpu"}
    choices = {
        "none": {**given, "guidance": "none"},
        "clip": {**given, "guidance": "clip", "clip": "nano-clip"},
    }
    codecs = {
        name: registry.build_codec("cotam-elic", "lambda0.0256", choice)
        for name, choice in choices.items()
    }
    found: dict[str, list[float]] = {}
    for number, picture in enumerate(pictures(options).values()):
        for name, codec in codecs.items():
            bitstream = codec.encode(picture)
            codec.decode(bitstream)
            if number:  # the first loads the weights
                encoding = seconds(lambda c=codec, p=picture: c.encode(p))  # type: ignore[misc]
                decoding = seconds(lambda c=codec, b=bitstream: c.decode(b))  # type: ignore[misc]
                found.setdefault(f"encode, {name}", []).append(encoding)
                found.setdefault(f"decode, {name}", []).append(decoding)
    for name, times in sorted(found.items()):
        print(f"{name}: {1000 * float(np.median(times)):.1f} ms")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["maps", "time"])
    parser.add_argument("path", nargs="?", type=Path, default=Path("maps.json"))
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--size", type=int, default=256)
    given = parser.parse_args()
    options = ScenesOptions(images=given.images, seed=given.seed, size=given.size)
    if given.what == "maps":
        write(given.path, options)
    else:
        measure(options)


if __name__ == "__main__":
    main()
