import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens.errors import BitstreamError, ConfigError
from lossylens.options.resolving import resolve_options
from lossylens.testing.pictures import picture, squared_error
from lossylens.testing.registering import registered
from lossylens_codec_jpegxl.codec import Jpegxl
from lossylens_codec_jpegxl.decoding import decode
from lossylens_codec_jpegxl.plugin import JpegxlOptions, register_codecs
from lossylens_codec_jpegxl.structure import JpegxlFormatError, picture_size
from lossylens_toolkit.quality import quality_level
from PIL import Image

SPEC = registered(register_codecs)

# Bytes of picture(256, 256) by quality, with pillow-jxl-plugin 1.3.8.
GOLDEN = {0: 1016, 10: 1355, 30: 2166, 50: 2512, 75: 4342, 99: 59701}


def codec(quality=30, **options):
    return Jpegxl(quality_level(quality), JpegxlOptions(**options))


def test_levels():
    assert [level.name for level in SPEC.levels] == ["q0", "q10", "q30", "q50"]
    for name in ("q100", "q-1", "q05"):
        with pytest.raises(ConfigError, match="q0 to q99"):
            SPEC.level(name)


def test_options_are_validated():
    with pytest.raises(ConfigError, match="effort"):
        resolve_options(SPEC, {"effort": 10}, "codecs.jpegxl")


@pytest.mark.parametrize("quality", GOLDEN)
def test_golden_size(quality):
    """Other releases of libjxl differ by a few percent."""
    bitstream = codec(quality).encode(picture(256, 256))
    assert len(bitstream) == pytest.approx(GOLDEN[quality], rel=0.05)


def test_nearly_nothing_is_lost_at_the_highest_quality():
    image = Image.radial_gradient("L").convert("RGB")
    tested = codec(99)
    assert squared_error(image, tested.decode(tested.encode(image))) < 0.5


def test_text_is_coded_with_patches_and_comes_back():
    """Patches are frames of their own, of other sizes than the picture."""
    glyph = np.asarray(picture(12, 9)) // 3
    page = np.full((200, 300, 3), 255, np.uint8)
    for y in range(10, 180, 20):
        for x in range(5, 280, 14):
            page[y : y + 12, x : x + 9] = glyph
    tested = codec(75)
    image = Image.fromarray(page)
    assert squared_error(image, tested.decode(tested.encode(image))) < 60


class TestSize:
    @pytest.mark.parametrize(
        "size",
        [
            *((1, 1), (8, 8), (256, 256), (257, 256), (120, 100), (400, 300), (300, 200)),
            *((160, 90), (125, 100), (200, 100), (512, 1), (513, 1), (1, 8193), (16384, 1)),
        ],
        ids=str,
    )
    def test_is_read_from_the_header(self, size):
        """Every ratio, and every length of a side that is in reach."""
        bitstream = codec(0, effort=1).encode(Image.new("RGB", size))
        assert picture_size(bitstream) == size

    @given(st.binary(max_size=30))
    def test_anything_is_refused_or_read(self, data):
        try:
            width, height = picture_size(b"\xff\x0a" + data)
        except JpegxlFormatError:
            assert len(data) < 10
        else:
            assert 0 <= width <= 2**31
            assert 1 <= height <= 2**30

    def test_beyond_the_limits(self):
        """A side of 2**30, by the last selector of its length, in both directions."""
        header = (0b000 << 33 | (2**30 - 1) << 3 | 0b11 << 1).to_bytes(5, "little")
        with pytest.raises(BitstreamError, match="more than the limit"):
            codec().decode(b"\xff\x0a" + header + b"\xff" * 20)


class TestRefusals:
    @pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
    def test_another_format(self, format_):
        buffer = io.BytesIO()
        picture(40, 50).save(buffer, format_)
        with pytest.raises(BitstreamError, match="not a bare JPEG XL codestream"):
            codec().decode(buffer.getvalue())

    def test_a_container(self):
        buffer = io.BytesIO()
        picture(40, 50).save(buffer, "JXL", use_container=True)
        with pytest.raises(BitstreamError, match="not a bare JPEG XL codestream"):
            codec().decode(buffer.getvalue())

    @pytest.mark.parametrize("mode", ["L", "RGBA"])
    def test_a_picture_of_another_mode_is_rgb_or_refused(self, mode):
        """Its pixels are what is asked for; the mode is none of this codec's."""
        buffer = io.BytesIO()
        picture(40, 50).convert(mode).save(buffer, "JXL", quality=50)
        assert codec().decode(buffer.getvalue()).mode == "RGB"

    def test_the_decoders_own_refusals(self):
        bitstream = codec().encode(picture(40, 50))
        assert len(decode(bitstream)) == 40 * 50 * 3
        with pytest.raises(ValueError, match="libjxl refuses it"):
            decode(bitstream[:-1])


def test_provenance():
    assert codec().provenance()["pillow-jxl-plugin"]
