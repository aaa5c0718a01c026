"""``lossylens ask``: one question about one picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossylens.adaptor import Adaptor, Needs
from lossylens.cli.completing import names_of
from lossylens.cli.single_files import naming, parse_options, read_input
from lossylens.codec import SOURCE, CodecPoint
from lossylens.errors import ConfigError, LossylensError
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind, Vlm, VlmIdentity

if TYPE_CHECKING:
    from PIL.Image import Image

    from lossylens.registry.plugins import Registry


def ask(
    vlm: Annotated[
        str, typer.Argument(help="Name of the VLM, such as nano.", autocompletion=names_of("vlm"))
    ],
    image: Annotated[Path, typer.Argument(help="Image file to read.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    codec: Annotated[
        str,
        typer.Option(
            help="Compress the picture with this codec first.", autocompletion=names_of("codec")
        ),
    ] = "",
    level: Annotated[str, typer.Option(help="Level of the codec, such as q5.")] = "",
    adaptor: Annotated[
        str,
        typer.Option(help="Attach this adaptor to the VLM.", autocompletion=names_of("adaptor")),
    ] = "",
    kind: Annotated[
        QuestionKind | None, typer.Option(help="Form of the answer. Default: open.")
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(metavar="LETTER=TEXT", help="Possible answer; makes it multiple choice."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the VLM; can be repeated."),
    ] = None,
    codec_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Option of the codec; square.side=192 codes squares of such a side.",
        ),
    ] = None,
    adaptor_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the adaptor.")
    ] = None,
) -> None:
    """Ask a VLM one question about a picture, compressed or not; print the answer.

    A photograph is turned upright first, as its EXIF orientation says.
    """
    from lossylens.images import read_image
    from lossylens.registry.plugins import load_registry

    if bool(codec) != bool(level):
        raise ConfigError("--codec and --level go together")
    data = read_input(image)
    registry = load_registry()
    model = registry.build_vlm(vlm, parse_options(option))
    with naming(image):
        picture = read_image(data, apply_orientation=True)
        condition = Condition(SOURCE, picture.size)
        if codec:
            options = parse_options(codec_option, "--codec-option")
            picture, condition = _compressed(registry, codec, level, options, picture)
    shown: Image | None = picture
    if adaptor:
        method = registry.build_adaptor(adaptor, parse_options(adaptor_option, "--adaptor-option"))
        identity = VlmIdentity(registry.find("vlm", vlm).spec.name, vlm, dict(model.provenance()))
        reason = method.fits(identity, condition.point)
        if reason:
            raise ConfigError(f"adaptor {adaptor!r} does not serve this: {reason}")
        model, shown = _adapted(model, method, picture, condition)
    asked = _question(question, kind, _choices(choice or ()))
    answer = model.answer([ImageQuestions((shown,), (asked,), (condition,))])[0][0]
    if answer.text is None:
        raise LossylensError(f"vlm {vlm!r} gave no answer: {answer.failure}")
    print(answer.text)


def _question(text: str, kind: QuestionKind | None, choices: Mapping[str, str]) -> Question:
    default = QuestionKind.MULTIPLE_CHOICE if choices else QuestionKind.OPEN
    return Question(kind or default, text, options=choices)


def _choices(given: Sequence[str]) -> dict[str, str]:
    choices = {}
    for pair in given:
        letter, equals, text = pair.partition("=")
        if not letter or not equals:
            raise ConfigError(f"--choice {pair!r}: expected LETTER=TEXT")
        if letter in choices:
            raise ConfigError(f"--choice {pair!r}: {letter} is given twice")
        choices[letter] = text
    return choices


def _compressed(
    registry: Registry, name: str, level: str, options: Mapping[str, Any], picture: Image
) -> tuple[Image, Condition]:
    """Encode and decode *picture*, as a square where *options* say so; say what that took."""
    from lossylens.grid.config import read_square
    from lossylens.images.pixels import decoded_image, squared

    spec = registry.find("codec", name).spec
    own = dict(options)
    given = own.pop("square", None)
    square = None if given is None else read_square(given, "--codec-option square")
    codec = registry.build_codec(name, level, own)
    coded = picture if square is None else squared(picture, square)
    bitstream = codec.encode(coded)
    rate = spec.rate(len(bitstream), picture.width, picture.height)
    print(
        f"{spec.name} {codec.level.name}: {len(bitstream)} bytes, {rate:.4f} bpp", file=sys.stderr
    )
    decoded = decoded_image(codec, bitstream, coded.size, parity=False)
    point = CodecPoint(
        codec=spec.name,
        level=codec.level.name,
        label=spec.name,
        parameters=dict(codec.level.parameters),
        provenance=dict(codec.provenance()),
        space=codec.space,
        square=square,
    )
    latents = codec.latents(bitstream) if codec.space else None
    return decoded, Condition(point, picture.size, bitstream, latents)


def _adapted(
    vlm: Vlm, adaptor: Adaptor, picture: Image, condition: Condition
) -> tuple[Vlm, Image | None]:
    """Return the VLM with *adaptor*, and what it is shown."""
    encode = adaptor.encoder(vlm.vision) if type(adaptor).encoder is not Adaptor.encoder else None
    if encode is not None:
        vlm = vlm.with_encoder(encode)
    if Needs.PIXELS not in adaptor.needs:
        return vlm, None
    return vlm, adaptor.picture(picture, condition)
