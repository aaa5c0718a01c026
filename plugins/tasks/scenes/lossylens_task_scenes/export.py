"""Exporting scenes as the data file of a benchmark, so that the real task plugins run on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lossylens.errors import ConfigError
from lossylens.names import canonical, suggestion
from lossylens_toolkit.photographs import PhotographSet

from lossylens_task_scenes import rows, several_images_rows, short_answer_rows
from lossylens_task_scenes.boxes import REFCOCO_COLUMNS, refcoco_rows
from lossylens_task_scenes.class_folders import write_classes
from lossylens_task_scenes.films import write_films
from lossylens_task_scenes.scene import NOMINAL_SIZE
from lossylens_task_scenes.tsv import IMAGE_FORMATS, ImageFormat, Row, write_tsv
from lossylens_task_scenes.vocabulary import SHAPES


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
    "textvqa": Benchmark(short_answer_rows.TEXTVQA_COLUMNS, short_answer_rows.textvqa_rows),
    "vqav2": Benchmark(short_answer_rows.VQAV2_COLUMNS, short_answer_rows.vqav2_rows),
    "docvqa": Benchmark(short_answer_rows.DOCVQA_COLUMNS, short_answer_rows.docvqa_rows),
    "infovqa": Benchmark(short_answer_rows.DOCVQA_COLUMNS, short_answer_rows.infovqa_rows),
    "chartqa": Benchmark(short_answer_rows.CHARTQA_COLUMNS, short_answer_rows.chartqa_rows),
    "mmmu": Benchmark(several_images_rows.MMMU_COLUMNS, several_images_rows.mmmu_rows),
    "refcoco": Benchmark(REFCOCO_COLUMNS, refcoco_rows),
}


Writer = Callable[[rows.SceneSource, Path, int, ImageFormat, Callable[[], None] | None], int]


@dataclass(frozen=True)
class Files:
    """How a benchmark is made that is not one file alone.

    `write` fills the folder or file that it is given and returns the number of rows, or of
    pictures; `folder` says that it is a folder.
    """

    write: Writer
    folder: bool
    least: int = 1


FILES: Final[dict[str, Files]] = {
    # Two pictures of each class: one is shown, the other asked about.
    "few-shot": Files(write_classes, folder=True, least=2 * len(SHAPES)),
    "video-mme": Files(write_films, folder=False),
}

_ALIASES: Final = {"videomme": "video-mme"}


def find_benchmark(name: str) -> str:
    """The canonical name of a benchmark; ConfigError when there is none."""
    wanted = canonical(name)
    wanted = _ALIASES.get(wanted, wanted)
    every = [*BENCHMARKS, *FILES]
    if wanted in every:
        return wanted
    known = ", ".join(every)
    hint = suggestion(name, every)
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

    few-shot is a folder instead; video-mme has `images` films, whose frames are in a folder beside
    the file.

    The same arguments give the same bytes with the same versions of Pillow and of the packages
    that hold the photographs.  `on_image` is called after each picture.
    """
    found = find_benchmark(name)
    chosen = FILES.get(found) or BENCHMARKS[found]
    if images < chosen.least:
        why = f"{name} has {chosen.least} categories" if chosen.least > 1 else "none is empty"
        if isinstance(chosen, Files) and chosen.folder:
            why = "two pictures of each class"
        raise ConfigError(f"--images must be at least {chosen.least} ({why}), got {images}")
    most = chosen.most if isinstance(chosen, Benchmark) else None
    if most is not None and images > most:
        raise ConfigError(f"--images must be at most {most} for {name}, got {images}")
    if seed < 0:
        raise ConfigError(f"--seed must not be negative, got {seed}")
    if image_format not in IMAGE_FORMATS:
        raise ConfigError(
            f"unknown image format {image_format!r}. {suggestion(image_format, IMAGE_FORMATS)}"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"folder {path.parent} does not exist; create it first")
    source = rows.SceneSource(seed, size, photographs)
    if isinstance(chosen, Files):
        folder = path if chosen.folder else path.with_suffix("")
        if folder.exists():
            raise ConfigError(f"{folder} exists; remove it, or give another name")
        return chosen.write(source, path, images, image_format, on_image)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of the file to write")
    return write_tsv(path, chosen.columns, chosen.rows(source, images), image_format, on_image)
