"""``lossylens encode``: one picture to a bitstream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lossylens.cli.completing import names_of
from lossylens.cli.single_files import check_output, naming, parse_options, read_input, write_output


def encode(
    codec: Annotated[
        str,
        typer.Argument(help="Name of the codec, such as jpeg.", autocompletion=names_of("codec")),
    ],
    level: Annotated[str, typer.Argument(help="Name of the level, such as q5.")],
    image: Annotated[Path, typer.Argument(help="Image file to read.")],
    bitstream: Annotated[Path, typer.Argument(help="File to write the bitstream to.")],
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the codec; can be repeated."),
    ] = None,
) -> None:
    """Encode a picture; print the bytes and the bits per pixel of the original.

    A photograph is turned upright first, as its EXIF orientation says.
    """
    from lossylens.images import read_image
    from lossylens.registry.plugins import load_registry

    # A codec may change the working directory.
    image, bitstream = image.absolute(), bitstream.absolute()
    check_output(bitstream, image)
    registry = load_registry()
    spec = registry.find("codec", codec).spec
    encoder = registry.build_codec(codec, level, parse_options(option))
    data = read_input(image)
    with naming(image):
        picture = read_image(data, apply_orientation=True)
        content = encoder.encode(picture)
    write_output(bitstream, content)
    rate = spec.rate(len(content), picture.width, picture.height)
    print(f"{len(content)} bytes, {rate:.4f} bpp ({picture.width}x{picture.height})")
