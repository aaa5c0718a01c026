"""The base of the codecs that Pillow writes, on a format that none of them uses."""

import pytest
from lossylens.codec import Level
from lossylens.errors import BitstreamError, ConfigError, ImageError
from lossylens.spec import NoOptions
from lossylens_toolkit.pillow_codec import PillowCodec
from lossylens_toolkit.quality import quality_level
from PIL import Image


class Bitmap(PillowCodec):
    format = "BMP"
    qualities = range(1, 10)
    max_side = 20
    max_pixels = 100

    def settings(self):
        return {"dpi": (self.quality, self.quality)}

    def check_file(self, bitstream):
        if len(bitstream) < 60:
            raise ValueError("too short")


class Failing(Bitmap):
    def settings(self):
        return {"dpi": (float("nan"), 1)}


bitmap = Bitmap(quality_level(3), NoOptions())


def test_round_trip():
    image = Image.new("RGB", (20, 5), (1, 2, 3))
    bitstream = bitmap.encode(image)
    assert bitstream[38:42] == (118).to_bytes(4, "little"), "the setting: 3 dpi are 118 per metre"
    assert bitmap.decode(bitstream).tobytes() == image.tobytes()


@pytest.mark.parametrize("quality", [0, 10, "3", 2.5, None])
def test_quality_outside_the_scale(quality):
    with pytest.raises(ConfigError, match=r"^bmp: quality .* of level x is outside 1\.\.9$"):
        Bitmap(Level("x", {"quality": quality}), NoOptions())


def test_level_without_quality():
    with pytest.raises(ConfigError, match="quality None"):
        Bitmap(Level("x"), NoOptions())


@pytest.mark.parametrize("size", [(21, 1), (1, 21), (11, 10)])
def test_too_large(size):
    with pytest.raises(ImageError, match="20 per side and 100 pixels"):
        bitmap.encode(Image.new("RGB", size))


def test_what_the_encoder_refuses():
    with pytest.raises(ImageError, match="bmp: cannot encode 2x3: "):
        Failing(quality_level(1), NoOptions()).encode(Image.new("RGB", (2, 3)))


def test_refused_by_the_check():
    with pytest.raises(BitstreamError, match=r"^bmp: too short$"):
        bitmap.decode(b"BM")


def test_refused_by_pillow():
    with pytest.raises(BitstreamError, match=r"^bmp: cannot read the image: not an intact BMP"):
        bitmap.decode(bytes(100))


def test_larger_than_the_limit():
    large = Bitmap(quality_level(1), NoOptions())
    large.max_pixels = 400
    bitstream = large.encode(Image.new("RGB", (20, 20)))
    with pytest.raises(BitstreamError, match="20x20 pixels, more than the limit of 100"):
        bitmap.decode(bitstream)
