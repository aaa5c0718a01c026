import io

import pytest
from lossylens.errors import BitstreamError, ConfigError, ImageError
from lossylens.options.resolving import resolve_options
from lossylens.testing.pictures import picture
from lossylens.testing.registering import registered
from lossylens_codec_avif.codec import Avif
from lossylens_codec_avif.plugin import AvifOptions, register_codecs
from lossylens_toolkit.quality import quality_level
from PIL import Image, features

SPEC = registered(register_codecs)

# Bytes by picture and quality with libaom 3.14.1 (Pillow 13.0.0).  libaom 3.12.1
# (Pillow 11.3.0 and 12.0.0) is within 2 %.
GOLDEN = [
    ((256, 256, 0), 0, 535),
    ((256, 256, 0), 10, 740),
    ((256, 256, 0), 30, 1157),
    ((256, 256, 0), 50, 1716),
    ((256, 256, 0), 75, 7235),
    ((256, 256, 0), 100, 50227),
    ((203, 157, 0), 0, 478),
    ((203, 157, 0), 50, 1284),
]


def codec(quality=10, **options):
    return Avif(quality_level(quality), AvifOptions(**options))


class TestLevels:
    def test_default_set(self):
        assert [level.name for level in SPEC.levels] == ["q0", "q10", "q30", "q50"]

    @pytest.mark.parametrize("options", [{"speed": 11}, {"tune": "best"}, {"subsampling": "411"}])
    def test_options_are_validated(self, options):
        with pytest.raises(ConfigError, match=next(iter(options))):
            resolve_options(SPEC, options, "codecs.avif")


class TestRequirements:
    def test_nothing_is_missing_here(self):
        assert not SPEC.requirements(AvifOptions())

    def test_pillow_without_avif(self, monkeypatch):
        monkeypatch.setattr(features, "check", lambda name: False)
        (missing,) = SPEC.requirements(AvifOptions())
        assert "AVIF" in missing.what
        assert "libavif" in missing.remedy


class TestEncode:
    @pytest.mark.parametrize(("shape", "quality", "size"), GOLDEN)
    def test_golden_size(self, shape, quality, size):
        assert len(codec(quality).encode(picture(*shape))) == pytest.approx(size, rel=0.03)

    @pytest.mark.parametrize("size", [(16385, 1), (1, 16385), (6000, 6000)])
    def test_sizes_beyond_the_limits_are_refused(self, size):
        with pytest.raises(ImageError):
            codec().encode(Image.new("RGB", size))

    def test_provenance_names_the_libraries(self):
        found = codec().provenance()
        assert {"pillow", "libavif"} <= set(found)
        assert all(found.values())


class TestRoundTrip:
    @pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
    @pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (7, 9), (33, 65)])
    def test_size_is_kept(self, size, subsampling):
        tested = codec(subsampling=subsampling, speed=8)
        image = picture(*size)
        decoded = tested.decode(tested.encode(image))
        assert decoded.size == image.size
        assert decoded.mode == "RGB"
        assert decoded.info == {}

    @pytest.mark.parametrize("tune", ["ssim", "iq", "psnr"])
    @pytest.mark.parametrize("quality", [0, 50, 99, 100])
    def test_tunes_at_all_qualities(self, tune, quality):
        tested = codec(quality, tune=tune, speed=8)
        assert tested.decode(tested.encode(picture(20, 30))).size == (30, 20)

    def test_largest_side(self):
        tested = codec(speed=10)
        assert tested.decode(tested.encode(Image.new("RGB", (16384, 1)))).size == (16384, 1)


class TestRefusals:
    def refuse(self, bitstream, match=None):
        with pytest.raises(BitstreamError, match=match) as caught:
            codec().decode(bitstream)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF"])
    def test_another_format(self, format_):
        buffer = io.BytesIO()
        picture(40, 50).save(buffer, format_)
        self.refuse(buffer.getvalue(), "not an AVIF")

    def test_other_kinds_of_avif(self):
        first, second = picture(20, 30), picture(20, 30, 1)
        transparent = first.convert("RGBA")
        transparent.putalpha(100)
        exif = Image.Exif()
        exif[0x010E] = "description"
        for image, options in (
            (transparent, {}),
            (first, {"exif": exif}),
            (first, {"save_all": True, "append_images": [second]}),
        ):
            buffer = io.BytesIO()
            image.save(buffer, "AVIF", speed=10, **options)
            self.refuse(buffer.getvalue())

    def test_extension(self):
        self.refuse(codec().encode(picture(20, 30)) + b"\0", "box")

    @pytest.mark.parametrize("size", [(16384, 16384), (65536, 1), (32768, 1)])
    def test_claimed_size(self, size):
        """In the metadata and in the AV1 stream alike."""
        bitstream = codec(speed=10).encode(Image.new("RGB", (300, 300)))
        self.refuse(claiming(bitstream, *size), "limit|too large|cannot")
        assert size[0] * size[1] > Avif.max_pixels or size[0] > 16384


def claiming(bitstream, width, height):
    """Return *bitstream* with another size in both places that state one."""
    start = bitstream.index(b"ispe") + 8
    sizes = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    bitstream = bitstream[:start] + sizes + bitstream[start + 8 :]
    start = bitstream.index(b"mdat") + 8  # behind a delimiter and the header's size
    length = bitstream[start - 1]
    bits = f"{int.from_bytes(bitstream[start : start + length], 'big'):0{8 * length}b}"
    old_width, old_height = (int(bits[at : at + 4], 2) + 1 for at in (10, 14))
    rest = bits[18 + old_width + old_height :]
    bits = f"{bits[:10]}{15:04b}{15:04b}{width - 1:016b}{height - 1:016b}{rest}"
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    header = int(bits, 2).to_bytes(len(bits) // 8, "big")
    grown = len(header) - length
    head = bytearray(bitstream[: start - 1] + bytes([len(header)]))
    for marker, offset in ((b"mdat", -4), (b"iloc", 22)):
        at = head.index(marker) + offset
        value = int.from_bytes(head[at : at + 4], "big") + grown
        head[at : at + 4] = value.to_bytes(4, "big")
    return bytes(head) + header + bitstream[start + length :]
