"""``lossylens train``: training of learned codecs and of adaptors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from lossylens.cli import INTERRUPTED
from lossylens.cli.completing import names_of
from lossylens.cli.overriding import with_keys
from lossylens.errors import RequirementError

if TYPE_CHECKING:
    from lossylens.options.optiondocs import OptionDoc

    from lossylens_toolkit.training.training_options import CodecTrainingOptions

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train learned codecs and adaptors."
)


@app.callback()
def train() -> None:
    """Train learned codecs and adaptors."""


def _keys() -> Iterator[OptionDoc]:
    from lossylens.options.optiondocs import option_docs

    from lossylens_toolkit.training.training_options import CodecTrainingOptions

    return option_docs(CodecTrainingOptions)


@app.command("codec", cls=with_keys(_keys))
def codec(
    name: Annotated[
        str,
        typer.Argument(help="Name of the codec, such as elic.", autocompletion=names_of("codec")),
    ],
    config: Annotated[Path, typer.Argument(help="Configuration, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as steps=1000."),
    ] = None,
) -> None:
    """Train a learned codec for one level, or fine-tune it from a checkpoint.

    Started again with the same folder, it goes on with the last state.
    """
    options = load_options(config, overrides or ())
    from lossylens.registry.plugins import load_registry

    try:
        from lossylens_toolkit.training.codec_training import train_codec
    except ModuleNotFoundError as error:
        raise RequirementError(
            f"training needs {error.name}: pip install 'lossylens-toolkit[training]'"
        ) from error
    try:
        path = train_codec(name, options, load_registry(), typer.echo)
    except KeyboardInterrupt:
        typer.echo(f"The last state is in {options.out}; the same command goes on with it.")
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"Checkpoint: {path}")


@app.command("adaptor")
def adaptor(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the adaptor, such as cve.", autocompletion=names_of("adaptor")
        ),
    ],
    config: Annotated[Path, typer.Argument(help="Configuration, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as training.steps=1000."),
    ] = None,
) -> None:
    """Train an adaptor for a VLM on pictures behind codecs.

    Started again with the same folder, it goes on with the last state.
    """
    try:
        from lossylens_toolkit.training.adaptor_training import train_adaptor
    except ModuleNotFoundError as error:
        raise RequirementError(
            f"training needs {error.name}: pip install 'lossylens-toolkit[training]'"
        ) from error
    try:
        trained = train_adaptor(name, config, overrides or (), typer.echo)
    except KeyboardInterrupt:
        typer.echo("The last state is kept; the same command goes on with it.")
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"Checkpoint: {trained.checkpoint}")
    for level, path in trained.codecs.items():
        typer.echo(f"Checkpoint of the codec at {level}: {path}")


def load_options(config: Path, overrides: list[str] | tuple[str, ...]) -> CodecTrainingOptions:
    """Return the options in a configuration.

    Raises:
        ConfigError: the file cannot be read, or an option is unknown or wrong.
    """
    from lossylens.grid.config import read_yaml
    from lossylens.options.resolving import resolve_options
    from lossylens.spec import PluginSpec

    from lossylens_toolkit.training.training_options import CodecTrainingOptions

    values, environment = read_yaml(config, overrides)
    # Checked as the options of a plugin are.
    spec = PluginSpec(name="training", summary="", factory="", options=CodecTrainingOptions)
    with environment.out_of_messages():
        options: CodecTrainingOptions = resolve_options(spec, values, "")
    return options
