import contextlib
import io
import json
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import yaml
from lossylens.cli import main
from lossylens.errors import BitstreamError, ConfigError, ImageError
from lossylens.options.resolving import resolve_options
from lossylens.run.picture_distances import psnr
from lossylens.testing.conformance import CodecConformance
from lossylens.testing.pictures import picture
from lossylens.testing.registering import registered
from lossylens_codec_jpeg.codec import Jpeg
from lossylens_codec_jpeg.plugin import JpegOptions, register_codecs
from lossylens_toolkit.quality import quality_level
from PIL import Image, ImageFile

SPEC = registered(register_codecs)

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())["rows"]
SUBSAMPLING = {0: "4:4:4"}
VARIANTS = [{}, {"optimize": True}, {"progressive": True}, {"subsampling": "4:4:4"}]


def codec(quality=5, **options):
    return Jpeg(quality_level(quality), JpegOptions(**options))


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def frame_offset(data, marker=b"\xff\xc0"):
    """Return where precision, height and width of the frame header begin."""
    return data.index(marker + b"\0\x11") + 4


class TestLevels:
    def test_published_set_is_the_default(self):
        assert [level.name for level in SPEC.levels] == ["q1", "q3", "q5", "q6"]

    def test_subsampling_is_validated(self):
        with pytest.raises(ValueError, match="4:4:4, 4:2:2 or 4:2:0"):
            JpegOptions(subsampling="4:1:1")

    def test_subsampling_in_a_configuration(self):
        """YAML 1.1 takes a plain 4:2:0 for a number in base 60, and 420 is one."""
        for value in ("4:2:0", "420"):
            assert resolve_options(SPEC, {"subsampling": value}, "x").subsampling == "4:2:0"
        for written in ("subsampling: 4:2:0", "subsampling: 420"):
            with pytest.raises(ConfigError, match="quotation marks"):
                resolve_options(SPEC, yaml.safe_load(written), "codecs.jpeg")


class TestEncode:
    @pytest.mark.parametrize("row", GOLDEN, ids=str)
    def test_golden_size_and_distortion(self, row):
        options = dict(row["variant"])
        if "subsampling" in options:
            options["subsampling"] = SUBSAMPLING[options["subsampling"]]
        image = picture(*row["picture"])
        tested = codec(row["quality"], **options)
        bitstream = tested.encode(image)
        assert len(bitstream) == row["bytes"]
        assert psnr(image, tested.decode(bitstream)) == pytest.approx(row["psnr_rgb"], abs=0.01)

    @pytest.mark.parametrize("options", VARIANTS, ids=str)
    def test_noise_at_the_highest_quality(self, options):
        """Pillow's buffer is too small for these when it optimises."""
        noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        before = ImageFile.MAXBLOCK
        tested = codec(100, **options)
        assert tested.decode(tested.encode(Image.fromarray(noise))).size == (300, 300)
        assert before == ImageFile.MAXBLOCK

    @pytest.mark.parametrize("size", [(65501, 1), (1, 65501)])
    def test_sizes_beyond_the_format_are_refused(self, size):
        with pytest.raises(ImageError):
            codec().encode(Image.new("RGB", size))

    def test_provenance_names_the_libraries(self):
        found = codec().provenance()
        assert set(found) == {"pillow", "jpeg_library"}
        assert all(found.values())


class TestRoundTrip:
    @pytest.mark.parametrize("options", VARIANTS, ids=str)
    @pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (7, 9), (16, 16), (33, 65)])
    def test_size_is_kept(self, size, options):
        tested = codec(**options)
        image = picture(*size)
        decoded = tested.decode(tested.encode(image))
        assert decoded.size == image.size
        assert decoded.mode == "RGB"
        assert decoded.info == {}

    @pytest.mark.parametrize("size", [(65500, 1), (1, 65500)])
    def test_largest_side(self, size):
        assert codec().decode(codec().encode(Image.new("RGB", size))).size == size

    @pytest.mark.parametrize("options", [*VARIANTS, {"progressive": True, "subsampling": "4:4:4"}])
    def test_uniform_pictures_pass_the_size_check(self, options):
        tested = codec(**options)
        image = Image.new("RGB", (2000, 1500), (200, 3, 7))
        assert tested.decode(tested.encode(image)).size == image.size

    def test_options_of_the_encoder_do_not_matter_to_the_decoder(self):
        image = picture(40, 50)
        first, second = codec(), codec(progressive=True)
        from_progressive = first.decode(second.encode(image))
        assert from_progressive.tobytes() == first.decode(first.encode(image)).tobytes()


def test_command_line(tmp_path, capsys):
    picture(40, 50).save(tmp_path / "a.png")
    files = [str(tmp_path / name) for name in ("a.png", "a.jpg", "b.png")]
    options = ["--option", "subsampling=4:4:4", "--option", "optimize=true"]
    assert main(["encode", "jpg", "Q5", *files[:2], *options]) == 0
    expected = codec(optimize=True, subsampling="4:4:4").encode(picture(40, 50))
    assert Path(files[1]).read_bytes() == expected
    rate = 8 * len(expected) / 2000
    assert capsys.readouterr().out == f"{len(expected)} bytes, {rate:.4f} bpp (50x40)\n"
    assert main(["decode", "jpeg", "q5", *files[1:]]) == 0
    with Image.open(files[2]) as decoded:
        assert decoded.tobytes() == codec().decode(expected).tobytes()
    assert main(["decode", "jpeg", "q6", *files[1:]]) == 2
    assert "a.jpg: jpeg: encoded at q5, this decoder is q6" in capsys.readouterr().err


class TestRefusals:
    def refuse(self, bitstream, match=None, quality=5):
        with pytest.raises(BitstreamError, match=match) as caught:
            codec(quality).decode(bitstream)
        assert "\n" not in str(caught.value)

    def test_another_level(self):
        bitstream = codec(75).encode(picture(40, 50))
        self.refuse(bitstream, "encoded at q75, this decoder is q5")

    def test_another_encoders_tables(self):
        buffer = io.BytesIO()
        tables = [[20] * 64, [90] * 64]
        picture(40, 50).save(buffer, "JPEG", qtables=tables)
        self.refuse(buffer.getvalue(), r"encoded at about q\d+, this decoder is q5")

    @pytest.mark.parametrize("format_", ["PNG", "WEBP", "GIF", "BMP"])
    def test_another_format(self, format_):
        buffer = io.BytesIO()
        picture(40, 50).save(buffer, format_)
        self.refuse(buffer.getvalue(), "not a JPEG")

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_other_components(self, mode):
        buffer = io.BytesIO()
        picture(40, 50).convert(mode).save(buffer, "JPEG", quality=5)
        self.refuse(buffer.getvalue(), "not a colour JPEG")

    @pytest.mark.parametrize("options", VARIANTS, ids=str)
    def test_every_cut(self, options, monkeypatch):
        """Whatever another library has told Pillow about truncated files."""
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        tested = codec(**options)
        bitstream = tested.encode(picture(20, 30))
        for length in range(len(bitstream)):
            with pytest.raises(BitstreamError):
                tested.decode(bitstream[:length])

    def test_scan_data_that_end_early(self, monkeypatch):
        """With a valid end marker, this is damage that libjpeg conceals or refuses."""
        bitstream = codec(6).encode(picture(64, 64))
        for lax in (False, True):
            monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lax)
            with contextlib.suppress(BitstreamError):
                assert codec(6).decode(bitstream[:-300] + b"\xff\xd9").size == (64, 64)

    def test_extension(self):
        self.refuse(codec().encode(picture(20, 30)) + b"\0", "1 bytes follow")

    @pytest.mark.parametrize("options", VARIANTS, ids=str)
    @pytest.mark.parametrize("claim", [(65500, 65500), (65535, 65535), (16384, 16), (0, 30)])
    def test_claimed_size(self, options, claim):
        bitstream = bytearray(codec(**options).encode(picture(20, 30)))
        marker = b"\xff\xc2" if options.get("progressive") else b"\xff\xc0"
        offset = frame_offset(bitstream, marker) + 1
        bitstream[offset : offset + 4] = struct.pack(">HH", *claim)
        self.refuse(bytes(bitstream), "claims|not a colour JPEG")

    def test_thousands_of_scans(self):
        bitstream = codec(progressive=True).encode(picture(20, 30))
        last = bitstream.rindex(b"\xff\xda")
        self.refuse(bitstream[:-2] + bitstream[last:-2] * 5000 + b"\xff\xd9", "5010 scans")

    def test_foreign_segments(self):
        bitstream = codec().encode(picture(20, 30))
        self.refuse(bitstream[:2] + segment(0xFE, b"comment") + bitstream[2:], "segment FE")

    def test_missing_table(self):
        bitstream = codec().encode(picture(20, 30))
        start = bitstream.index(b"\xff\xdb\0\x43\x01")
        self.refuse(bitstream[:start] + bitstream[start + 69 :], "table 1 is missing")


class TestProgressive(CodecConformance):
    """The conformance suite once more; with the default options it is run for all codecs."""

    codecs = ("jpeg",)
    options: ClassVar = {"progressive": True, "subsampling": "4:4:4"}
