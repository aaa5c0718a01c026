"""``lossylens decode``: a bitstream to a losslessly stored picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossylens.cli.completing import names_of
from lossylens.cli.single_files import check_output, naming, parse_options, read_input, write_output
from lossylens.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Extensions of formats that keep every pixel, by Pillow's names.
_LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".ppm": "PPM", ".tif": "TIFF", ".tiff": "TIFF"}


def decode(
    codec: Annotated[
        str,
        typer.Argument(help="Name of the codec, such as jpeg.", autocompletion=names_of("codec")),
    ],
    level: Annotated[str, typer.Argument(help="Level that the bitstream was encoded at.")],
    bitstream: Annotated[Path, typer.Argument(help="File with the bitstream.")],
    image: Annotated[Path, typer.Argument(help="Image file to write: .png, .bmp, .ppm or .tif.")],
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the codec; can be repeated."),
    ] = None,
) -> None:
    """Decode a bitstream into an image file that keeps every pixel."""
    from lossylens.registry.plugins import load_registry

    # A codec may change the working directory.
    bitstream, image = bitstream.absolute(), image.absolute()
    format_ = _lossless_format(image)
    check_output(image, bitstream)
    decoder = load_registry().build_codec(codec, level, parse_options(option))
    data = read_input(bitstream)
    with naming(bitstream):
        picture = decoder.decode(data)
    write_output(image, _stored(picture, format_))
    print(f"{picture.width}x{picture.height}")


def _lossless_format(path: Path) -> str:
    """Return the format for the extension of *path*.

    Raises:
        ConfigError: the format may lose something, or is unknown.
    """
    suffix = path.suffix.lower()
    if suffix not in _LOSSLESS:
        accepted = ", ".join(_LOSSLESS)
        raise ConfigError(
            f"cannot write {path}: a decoded picture must not be coded lossily once more;"
            f" use one of {accepted}"
        )
    return _LOSSLESS[suffix]


def _stored(picture: Image, format_: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_)
    return buffer.getvalue()
