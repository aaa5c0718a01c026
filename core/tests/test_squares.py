"""Codecs that are given squares in place of pictures, and rates that count the originals."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from lossylens.codec import Square
from lossylens.errors import ConfigError, ImageError
from lossylens.grid.config import Config
from lossylens.grid.plan import Demand, make_plan
from lossylens.images.pixels import source_image, squared
from lossylens.run.driver import run
from lossylens.store.database import Store
from PIL import Image

MakeConfig = Callable[..., Config]

SQUARE = "codecs.square={plugin: blocky, levels: [b8], square: {side: 12}}"


def striped(width: int, height: int) -> Image.Image:
    """Red says the column and green the row."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))


def test_a_picture_is_padded_cropped_or_distorted() -> None:
    wide = striped(9, 4)
    padded = np.asarray(squared(wide, Square(9)))
    assert padded.shape == (9, 9, 3)
    assert (padded[2:6] == np.asarray(wide)).all()
    assert (np.delete(padded, range(2, 6), 0) == (122, 116, 104)).all()
    cropped = np.asarray(squared(wide, Square(4, "crop")))
    assert (cropped == np.asarray(wide)[:, 2:6]).all()
    squashed = squared(wide, Square(18, "squash"))
    assert squashed.tobytes() == wide.resize((18, 18), Image.Resampling.BICUBIC).tobytes()
    assert squared(striped(5, 5), Square(5)).tobytes() == striped(5, 5).tobytes()


def test_of_a_tall_picture_nothing_is_shifted() -> None:
    tall = striped(3, 8)
    assert (np.asarray(squared(tall, Square(8)))[:, 2:5] == np.asarray(tall)).all()
    assert (np.asarray(squared(tall, Square(3, "crop"))) == np.asarray(tall)[2:5]).all()


def test_a_square_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="65000x2 becomes a square of more than"):
        squared(Image.new("RGB", (65000, 2)), Square(8))
    assert squared(Image.new("RGB", (65000, 2)), Square(2, "crop")).size == (2, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{side: 0}", "codecs.square.square: side must be 1 to 16384 pixels, got 0"),
        ("{side: 8, fit: bend}", "fit 'bend' is not one of pad, crop, squash"),
        ("{side: 8, border: [1, 2]}", "border takes three samples"),
        ("{side: 8, width: 9}", "square.*width"),
        ("{fit: pad}", "expected {side: 384, fit: pad}"),
        ("8", "expected {side: 384, fit: pad}, got 8"),
    ],
)
def test_squares_that_are_none(make_config: MakeConfig, given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(f"codecs.square={{plugin: blocky, square: {given}}}")


def test_what_is_not_coded_has_no_square(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="uncompressed passes pictures on as they are"):
        make_config("codecs.uncompressed={square: {side: 8}}")


def test_a_run_has_cells_of_its_own_for_squares(make_config: MakeConfig) -> None:
    config = make_config("codecs.blocky.levels=[b8]", SQUARE, "run.fidelity=[psnr]")
    plan = make_plan(config)
    assert len({codec.part.key for codec in plan.codecs}) == 3
    assert [codec.point.square for codec in plan.codecs] == [None, None, Square(12)]
    assert run(config, lambda line: None) == 0
    codec = config.registry.build_codec("blocky", "b8")
    key = plan.codecs[-1].part.key
    with Store(config.run.out, writable=False) as store:
        rates = {
            row["codec_label"]: row["bpp_mean"]
            for row in store.rows("SELECT * FROM cells JOIN scores ON cell = key")
        }
        notes = [text for part, text in store.notes() if part == key]
        measured = store.fidelities(key)
    expected = []
    for sample in plan.benchmarks[0].task.samples():
        source = source_image(sample.images[0].read(), parity=False)
        bitstream = codec.encode(squared(source, Square(12)))
        expected.append(8 * len(bitstream) / (source.width * source.height))
    assert rates["square"] == pytest.approx(np.mean(expected))
    # Measured are squares against squares.
    assert len(measured) == 6
    assert notes == [
        "pictures are padded to squares of 12x12 before they are coded; its rate counts the"
        " pixels of the originals, and all models and adaptors at it share this coding"
    ]


def test_boxes_in_squares_are_no_boxes_in_pictures(make_config: MakeConfig) -> None:
    plan = make_plan(make_config("codecs.blocky.levels=[b8]", SQUARE))
    demands = {each.part.key: Demand(1, True) for each in plan.benchmarks}
    with pytest.raises(ConfigError, match="gives no boxes"):
        plan.restricted(demands)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_evaluators_step_comes_first() -> None:
    data = png(striped(40, 30))
    whole = source_image(data, parity=True)
    assert source_image(data, parity=True, square=Square(20)).tobytes() == (
        squared(whole, Square(20)).tobytes()
    )
