"""``lossylens analyze``: looks into models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from lossylens.cli.overriding import TakesOverrides

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look into what models do.")


@app.callback()
def _analyze() -> None:
    """Look into what models do with compressed images."""


@app.command(cls=TakesOverrides)
def features(
    vlm: Annotated[str, typer.Argument(help="One of the VLMs in the configuration.")],
    config: Annotated[Path, typer.Argument(help="Configuration of a run, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as vlms.qwen2.5-vl-3b.device=cuda."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images to draw.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Draw where compression changes what the language model is given, and adaptors mend it.

    The maps go into the run folder, and the next report of the run shows them.
    """
    from lossylens.cli.terminal_tables import print_table
    from lossylens.grid.config import load_config

    from lossylens_toolkit.feature_maps import map_features, told

    loaded = load_config(config, overrides or ())
    with loaded.readable_errors():
        maps = map_features(loaded, vlm, images=images)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(each) for each in maps], indent=2))
    else:
        print_table(("codec", "level", "adaptor", "feature error"), told(maps))


@app.command(cls=TakesOverrides)
def layers(
    vlm: Annotated[str, typer.Argument(help="One of the VLMs in the configuration.")],
    config: Annotated[Path, typer.Argument(help="Configuration of a run, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as vlms.qwen2.5-vl-3b.device=cuda."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=False,
            help="Images to measure. Default: 100, or what five minutes suffice for.",
        ),
    ] = None,
    maps: Annotated[int, typer.Option(min=0, help="Images to draw maps of.")] = 2,
    map_layers: Annotated[int, typer.Option(min=1, help="Layers to draw maps of.")] = 6,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the page. Default: layers/VLM in the run folder."),
    ] = None,
) -> None:
    """Measure the layers of a vision encoder on original and compressed images.

    Token similarity, attention distance, inflow and outflow, and maps of them and of the
    class token's attention, for each codec and level of the configuration, on the first
    images of its tasks.
    """
    from lossylens.grid.config import load_config

    from lossylens_toolkit.layer_analysis.layer_study import analyse_layers, write_layers

    folder = out and out.absolute()  # a plugin may change the working directory
    loaded = load_config(config, overrides or ())
    with loaded.readable_errors():
        analysis = analyse_layers(loaded, vlm, images=images, mapped=maps, map_layers=map_layers)
    folder = folder or loaded.run.out / "layers" / analysis.vlm
    page = write_layers(analysis, folder)
    measured = analysis.original.images + len(analysis.failures)
    if measured < analysis.wanted:
        typer.echo(
            f"{measured} of {analysis.wanted} images were measured in five minutes;"
            f" --images {analysis.wanted} measures them all",
            err=True,
        )
    typer.echo(out / page.name if out else loaded.readable(str(page)))
