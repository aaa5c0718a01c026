"""Exporting scenes as the data file of a benchmark, so that the real task plugins run on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lossylens.errors import ConfigError
from lossylens.names import canonical, suggestion
from lossylens_toolkit.photographs import PhotographSet

from lossylens_task_scenes import rows
from lossylens_task_scenes.boxes import REFCOCO_COLUMNS, refcoco_rows
from lossylens_task_scenes.scene import NOMINAL_SIZE
from lossylens_task_scenes.tsv import IMAGE_FORMATS, ImageFormat, Row, write_tsv


@dataclass(frozen=True)
class Benchmark:
    """How one benchmark's file is made; `least` is the smallest number of images it can have."""

    columns: tuple[str, ...]
    rows: Callable[[rows.SceneSource, int], Iterator[Row]]
    least: int = 1
    most: int | None = None


BENCHMARKS: Final[dict[str, Benchmark]] = {
    "pope": Benchmark(rows.POPE_COLUMNS, rows.pope_rows),
    "gqa": Benchmark(rows.GQA_COLUMNS, rows.gqa_rows),
    # The evaluator refuses a file without all 14 categories.
    "mme": Benchmark(rows.MME_COLUMNS, rows.mme_rows, least=len(rows.MME_ASKERS)),
    # Circular copies are told by index // 1000000.
    "mmbench": Benchmark(rows.MMBENCH_COLUMNS, rows.mmbench_rows, most=rows.CIRCULAR_STEP),
    "seedbench": Benchmark(rows.SEEDBENCH_COLUMNS, rows.seedbench_rows),
    "ocrbench": Benchmark(rows.OCRBENCH_COLUMNS, rows.ocrbench_rows),
    "coco-caption": Benchmark(rows.COCO_COLUMNS, rows.coco_rows),
    "refcoco": Benchmark(REFCOCO_COLUMNS, refcoco_rows),
}


def find_benchmark(name: str) -> str:
    """The canonical name of a benchmark; ConfigError when there is none."""
    wanted = canonical(name)
    if wanted in BENCHMARKS:
        return wanted
    known = ", ".join(BENCHMARKS)
    hint = suggestion(name, BENCHMARKS)
    hint = f"{hint} " if hint.startswith("Did") else ""
    raise ConfigError(
        f"scenes cannot be exported as {name!r}. {hint}They can be exported as: {known}."
    )


def export(
    name: str,
    path: Path,
    images: int,
    seed: int,
    image_format: ImageFormat = "png",
    size: int = NOMINAL_SIZE,
    photographs: PhotographSet = "all",
    on_image: Callable[[], None] | None = None,
) -> int:
    """Write the file of benchmark `name` with `images` scenes of `size` pixels; returns its rows.

    The same arguments give the same bytes with the same versions of Pillow and of the packages
    that hold the photographs.  `on_image` is called after each picture.
    """
    benchmark = BENCHMARKS[find_benchmark(name)]
    if images < benchmark.least:
        why = f"{name} has {benchmark.least} categories" if benchmark.least > 1 else "none is empty"
        raise ConfigError(f"--images must be at least {benchmark.least} ({why}), got {images}")
    if benchmark.most is not None and images > benchmark.most:
        raise ConfigError(f"--images must be at most {benchmark.most} for {name}, got {images}")
    if seed < 0:
        raise ConfigError(f"--seed must not be negative, got {seed}")
    if image_format not in IMAGE_FORMATS:
        raise ConfigError(
            f"unknown image format {image_format!r}. {suggestion(image_format, IMAGE_FORMATS)}"
        )
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of the file to write")
    if not path.parent.is_dir():
        raise ConfigError(f"folder {path.parent} does not exist; create it first")
    source = rows.SceneSource(seed, size, photographs)
    return write_tsv(
        path, benchmark.columns, benchmark.rows(source, images), image_format, on_image
    )
