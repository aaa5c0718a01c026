"""The commands `lossylens scenes ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

scenes_app = typer.Typer(
    no_args_is_help=True, help="Procedural scenes with known truth.", add_completion=False
)


@scenes_app.callback()
def scenes() -> None:
    """Procedural scenes with known truth."""


@scenes_app.command("export")
def export_command(
    task: Annotated[
        str,
        typer.Argument(
            help="Benchmark: pope, gqa, mme, mmbench, seedbench, ocrbench, coco-caption, textvqa, "
            "vqav2, docvqa, infovqa, chartqa, mmmu, refcoco, few-shot or video-mme."
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write; for few-shot a folder.")
    ],
    images: Annotated[int, typer.Option(help="Number of scenes.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 7,
    image_format: Annotated[
        str, typer.Option(help="How pictures are stored: png (lossless) or jpeg95.")
    ] = "png",
    size: Annotated[int, typer.Option(help="Width and height of a scene in pixels.")] = 224,
    photographs: Annotated[
        str, typer.Option(help="Backgrounds are cut from: all, held-in or held-out photographs.")
    ] = "all",
) -> None:
    """Write scenes and questions as the data file of a benchmark.

    The file has the columns and cells of the real one, so the benchmark's own task plugin reads
    it; scores on it are scores on scenes, not on that benchmark.
    """
    # Imported here: this module is loaded with every command of lossylens.
    from typing import cast

    from lossylens_toolkit.photographs import check_photographs
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from lossylens_task_scenes.export import export
    from lossylens_task_scenes.options import check_size
    from lossylens_task_scenes.tsv import ImageFormat

    errors = Console(stderr=True)
    with Progress(
        "scenes", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=errors, transient=True,
    ) as progress:  # fmt: skip
        bar = progress.add_task("scenes", total=images)
        rows = export(
            task,
            out,
            images,
            seed,
            cast(ImageFormat, image_format),
            check_size(size),
            check_photographs(photographs),
            on_image=lambda: progress.advance(bar),
        )
    typer.echo(f"{out}: {rows} rows on {images} scenes, seed {seed}")
