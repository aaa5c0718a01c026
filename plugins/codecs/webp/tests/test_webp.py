import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.errors import BitstreamError
from lossylens.testing.pictures import picture
from lossylens.testing.registering import registered
from lossylens_codec_webp.codec import Webp
from lossylens_codec_webp.plugin import WebpOptions, register_codecs
from lossylens_toolkit.quality import quality_level
from PIL import Image, features

SPEC = registered(register_codecs)

# Bytes by picture, quality and method; the same for libwebp 1.4.0, 1.5.0 and
# 1.6.0 (Pillow 11.0.0, 11.3.0, 12.0.0 and 13.0.0).
GOLDEN = [
    ((256, 256, 0), 0, 0, 972),
    ((256, 256, 0), 20, 0, 1680),
    ((256, 256, 0), 0, 4, 886),
    ((256, 256, 0), 5, 4, 1228),
    ((256, 256, 0), 20, 4, 1578),
    ((256, 256, 0), 50, 4, 2520),
    ((256, 256, 0), 75, 4, 4266),
    ((256, 256, 0), 100, 4, 31368),
    ((256, 256, 0), 50, 6, 2312),
    ((203, 157, 0), 0, 4, 562),
    ((203, 157, 0), 5, 4, 784),
    ((203, 157, 0), 20, 4, 1048),
    ((203, 157, 0), 50, 4, 1626),
    ((203, 157, 0), 75, 6, 2096),
]


def codec(quality=5, **options):
    return Webp(quality_level(quality), WebpOptions(**options))


def riff(*chunks):
    body = b"".join(
        code + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for code, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


class TestLevels:
    def test_default_set(self):
        assert [level.name for level in SPEC.levels] == ["q0", "q5", "q20", "q50"]

    @pytest.mark.parametrize("method", [-1, 7])
    def test_method_is_validated(self, method):
        with pytest.raises(ValueError, match=r"outside 0\.\.6"):
            WebpOptions(method=method)


class TestRequirements:
    def test_nothing_is_missing_here(self):
        assert not SPEC.requirements(WebpOptions())

    def test_pillow_without_webp(self, monkeypatch):
        monkeypatch.setattr(features, "check", lambda name: False)
        (missing,) = SPEC.requirements(WebpOptions())
        assert "WebP" in missing.what
        assert "libwebp" in missing.remedy


class TestEncode:
    @pytest.mark.parametrize(("shape", "quality", "method", "size"), GOLDEN)
    def test_golden_size(self, shape, quality, method, size):
        assert len(codec(quality, method=method).encode(picture(*shape))) == size

    def test_provenance_names_the_libraries(self):
        found = codec().provenance()
        assert set(found) == {"pillow", "libwebp"}
        assert all(found.values())


class TestRoundTrip:
    @pytest.mark.parametrize("size", [(16383, 1), (1, 16383)])
    def test_largest_side(self, size):
        assert codec().decode(codec().encode(Image.new("RGB", size))).size == size

    @pytest.mark.parametrize("quality", [0, 50, 100])
    @pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 3, 7)])
    def test_uniform_pictures_pass_the_size_check(self, quality, colour):
        tested = codec(quality)
        image = Image.new("RGB", (2000, 1500), colour)
        assert tested.decode(tested.encode(image)).size == image.size


class TestRefusals:
    def refuse(self, bitstream, match=None):
        with pytest.raises(BitstreamError, match=match) as caught:
            codec().decode(bitstream)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "BMP"])
    def test_another_format(self, format_):
        buffer = io.BytesIO()
        picture(40, 50).save(buffer, format_)
        self.refuse(buffer.getvalue(), "not a WebP")

    @pytest.mark.parametrize(
        "options",
        [{"lossless": True}, {"exif": b"II*\0\x08\0\0\0\0\0"}, {"icc_profile": b"profile"}],
        ids=str,
    )
    def test_other_kinds_of_webp(self, options):
        buffer = io.BytesIO()
        picture(20, 30).save(buffer, "WEBP", **options)
        self.refuse(buffer.getvalue(), "not the simple lossy file")

    @pytest.mark.parametrize("animated", [False, True])
    def test_transparency_and_animation(self, animated):
        buffer = io.BytesIO()
        first = picture(20, 30).convert("RGBA")
        first.putalpha(100)
        more = [picture(20, 30, 1)] if animated else []
        first.save(buffer, "WEBP", save_all=animated, append_images=more)
        self.refuse(buffer.getvalue(), "not the simple lossy file")

    def test_extension(self):
        self.refuse(codec().encode(picture(20, 30)) + b"\0", "truncated or extended")

    def test_extension_inside(self):
        vp8 = codec().encode(picture(20, 30))[20:]
        self.refuse(riff((b"VP8 ", vp8), (b"JUNK", b"1234")), "not the simple lossy file")

    def test_chunk_longer_than_the_file(self):
        bitstream = bytearray(codec().encode(picture(20, 30)))
        bitstream[16:20] = struct.pack("<I", 0xFFFFFFFF)
        self.refuse(bytes(bitstream), "truncated or broken chunk")

    @pytest.mark.parametrize("claim", [(16383, 16383), (16383, 64), (0, 30)])
    def test_claimed_size(self, claim):
        bitstream = bytearray(codec().encode(picture(20, 30)))
        bitstream[26:30] = struct.pack("<HH", *claim)
        self.refuse(bytes(bitstream), "claims|no pixels")


SMALL = codec(0).encode(Image.radial_gradient("L").resize((24, 40)).convert("RGB"))


def decodes_or_refuses(data):
    try:
        image = codec().decode(data)
    except BitstreamError:
        return
    assert image.mode == "RGB"
    assert image.width * image.height <= 5 * 256 * len(data)


@settings(max_examples=200, deadline=None)
@given(
    head=st.integers(0, 40),
    content=st.binary(max_size=300),
    code=st.sampled_from([b"VP8 ", b"VP8L"]),
)
def test_random_content_in_a_whole_container(head, content, code):
    decodes_or_refuses(riff((code, SMALL[20 : 20 + head] + content)))
