import contextlib
import io
import struct
import threading
import warnings
import zlib

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.errors import ImageError
from lossylens.images import (
    MAX_PIXELS,
    SourceFormat,
    content_hash,
    evaluator_parity,
    plain_rgb,
    read_image,
    source_format,
)
from PIL import Image, ImageFile, ImageOps

ORIENTATION = 0x0112


def make_picture(width=61, height=48):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 4, y * 5, x * y], -1).astype(np.uint8))


def save(image, format_, **options):
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def pixels(image):
    assert image.mode == "RGB"
    assert type(image) is Image.Image
    assert image.info == {}
    return np.asarray(image)


def oriented(value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif.tobytes()


def chunk(code, body):
    crc = struct.pack(">I", zlib.crc32(code + body))
    return struct.pack(">I", len(body)) + code + body + crc


def png(width, height, depth, colour, rows=b"", *extra):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


PICTURE = make_picture()
PALETTE = PICTURE.quantize(64)
OTHER = PICTURE.transpose(Image.Transpose.ROTATE_180)
FILES = {
    "jpeg": save(PICTURE, "JPEG"),
    "jpeg progressive": save(PICTURE, "JPEG", progressive=True),
    "jpeg grey": save(PICTURE.convert("L"), "JPEG"),
    "jpeg cmyk": save(PICTURE.convert("CMYK"), "JPEG"),
    "png": save(PICTURE, "PNG"),
    "png palette": save(PALETTE, "PNG"),
    "png 16 bits": save(Image.fromarray(np.full((5, 6), 40000, np.uint16)), "PNG"),
    "webp lossy": save(PICTURE, "WEBP"),
    "webp lossless": save(PICTURE, "WEBP", lossless=True),
    "webp animated": save(PICTURE, "WEBP", save_all=True, append_images=[OTHER]),
    "gif": save(PALETTE, "GIF"),
    "bmp": save(PICTURE, "BMP"),
    "tiff": save(PICTURE, "TIFF"),
    "tiff lzw": save(PICTURE, "TIFF", compression="tiff_lzw"),
    "ppm": save(PICTURE, "PPM"),
}


class TestModes:
    def test_rgb_is_kept(self):
        for name in ("png", "webp lossless", "bmp", "tiff", "tiff lzw", "ppm"):
            assert (pixels(read_image(FILES[name])) == np.asarray(PICTURE)).all(), name

    def test_grey(self):
        grey = PICTURE.convert("L")
        expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
        assert (pixels(read_image(save(grey, "PNG"))) == expected).all()

    def test_one_bit(self):
        image = PICTURE.convert("1")
        expected = np.repeat(np.asarray(image)[..., None], 3, axis=2) * 255
        assert (pixels(read_image(save(image, "PNG"))) == expected).all()

    def test_palette(self):
        expected = np.asarray(PALETTE.convert("RGB"))
        for format_ in ("PNG", "GIF", "BMP"):
            assert (pixels(read_image(save(PALETTE, format_))) == expected).all()

    @pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 4))], ids=["index", "bytes"])
    def test_palette_with_transparency_shows_the_palette(self, transparency):
        data = save(PALETTE, "PNG", transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (pixels(read_image(data)) == np.asarray(PALETTE.convert("RGB"))).all()

    def test_grey_and_colour_with_a_transparent_colour(self):
        for mode, transparency in (("L", 7), ("RGB", (1, 2, 3))):
            image = PICTURE.convert(mode)
            data = save(image, "PNG", transparency=transparency)
            assert (pixels(read_image(data)) == np.asarray(image.convert("RGB"))).all()

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_alpha_is_dropped_not_blended(self, mode):
        """As the reference evaluator does; blending would give other pixels."""
        image = PICTURE.convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        expected = np.asarray(PICTURE.convert("L" if mode == "LA" else "RGB").convert("RGB"))
        assert (pixels(read_image(save(image, "PNG"))) == expected).all()

    @pytest.mark.parametrize("marked", [True, False])
    def test_cmyk_jpeg_is_inverted_with_or_without_adobes_marker(self, marked):
        data = save(PICTURE.convert("CMYK"), "JPEG", quality=95)
        if not marked:
            start = data.index(b"\xff\xee")
            length = int.from_bytes(data[start + 2 : start + 4], "big")
            data = data[:start] + data[start + 2 + length :]
        difference = pixels(read_image(data)).astype(int) - np.asarray(PICTURE)
        assert np.abs(difference).mean() < 4

    @pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="cannot read its own YCbCr")
    def test_ycbcr_tiff(self):
        image = PICTURE.convert("YCbCr")
        expected = np.asarray(image.convert("RGB"))
        assert (pixels(read_image(save(image, "TIFF"))) == expected).all()

    def test_first_frame_of_an_animation(self):
        first = np.asarray(PALETTE.convert("RGB"))
        other = PALETTE.transpose(Image.Transpose.ROTATE_180)
        for format_ in ("GIF", "PNG"):
            data = save(PALETTE, format_, save_all=True, append_images=[other])
            assert (pixels(read_image(data)) == first).all()

    def test_several_pictures_in_one_jpeg(self):
        data = save(PICTURE, "MPO", save_all=True, append_images=[OTHER])
        assert (pixels(read_image(data)) == pixels(read_image(FILES["jpeg"]))).all()


class TestDeepSamples:
    """All are scaled; Pillow's own conversion would clip them to white."""

    VALUES = np.array([[0, 255, 256, 300, 32768, 65279, 65535]])
    BYTES: tuple[int, ...] = (0, 0, 1, 1, 128, 254, 255)

    def check(self, data, expected):
        found = pixels(read_image(data))
        assert [tuple(pixel) for pixel in found[0]] == [(value,) * 3 for value in expected]

    def test_16_bit_png(self):
        self.check(save(Image.fromarray(self.VALUES.astype(np.uint16)), "PNG"), self.BYTES)

    def test_16_bit_colour_png_gives_the_same_as_grey(self):
        samples = np.repeat(self.VALUES[..., None], 3, axis=2).astype(">u2")
        self.check(png(7, 1, 16, 2, b"\0" + samples.tobytes()), self.BYTES)

    @pytest.mark.parametrize("order", ["<u2", ">u2"])
    def test_16_bit_tiff(self, order):
        image = Image.fromarray(self.VALUES.astype(order))
        self.check(save(image, "TIFF"), self.BYTES)

    def test_16_bit_pgm(self):
        data = b"P5 7 1 65535\n" + self.VALUES.astype(">u2").tobytes()
        self.check(data, self.BYTES)

    def test_dark_16_bit_png_stays_dark(self):
        dark = np.array([[0, 100, 255]], np.uint16)
        self.check(save(Image.fromarray(dark), "PNG"), (0, 0, 0))
        self.check(b"P5 3 1 65535\n" + dark.astype(">u2").tobytes(), (0, 0, 0))

    def test_integers_take_the_smallest_customary_range(self):
        for values, expected in (
            ([0, 100, 255], (0, 100, 255)),
            ([0, 256, 65535], (0, 1, 255)),
        ):
            image = Image.fromarray(np.array([values], np.int32))
            self.check(save(image, "TIFF"), expected)

    def test_floats_take_the_smallest_customary_range(self):
        for values, expected in (
            ([0, 0.5, 1], (0, 128, 255)),
            ([0, 1.5, 255], (0, 1, 255)),
            ([0, 256, 65535], (0, 1, 255)),
        ):
            image = Image.fromarray(np.array([values], np.float32))
            self.check(save(image, "TIFF"), expected)

    @pytest.mark.parametrize("bad", [-1, 65536, np.nan, np.inf])
    def test_other_ranges_are_refused(self, bad):
        image = Image.fromarray(np.array([[0, bad]], np.float32))
        with pytest.raises(ImageError, match="samples range from"):
            read_image(save(image, "TIFF"))


class TestOrientation:
    UPRIGHT = make_picture(32, 16)

    def rotated(self, value):
        """Return pixels that a viewer who honours *value* shows as UPRIGHT."""
        back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        same = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            7: Image.Transpose.TRANSVERSE,
        }
        turn = (back | same).get(value)
        return self.UPRIGHT if turn is None else self.UPRIGHT.transpose(turn)

    @pytest.mark.parametrize("value", range(1, 9))
    @pytest.mark.parametrize("format_", ["PNG", "WEBP"])
    def test_ignored_unless_asked_for(self, value, format_):
        stored = self.rotated(value)
        data = save(stored, format_, exif=oriented(value), lossless=True)
        assert (pixels(read_image(data)) == np.asarray(stored)).all()
        upright = pixels(read_image(data, apply_orientation=True))
        assert (upright == np.asarray(self.UPRIGHT)).all()
        assert source_format(data).orientation == value

    @pytest.mark.parametrize("value", range(1, 9))
    def test_jpeg(self, value):
        data = save(self.rotated(value), "JPEG", exif=oriented(value))
        assert read_image(data).size == self.rotated(value).size
        applied = read_image(data, apply_orientation=True)
        assert (
            pixels(applied) == np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        ).all()
        assert source_format(data).orientation == value

    def test_pillow_itself_rotates_tiff(self):
        data = save(self.rotated(6), "TIFF", tiffinfo={ORIENTATION: 6})
        for apply in (False, True):
            found = pixels(read_image(data, apply_orientation=apply))
            assert (found == np.asarray(self.UPRIGHT)).all()

    @pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", oriented(0), oriented(9)])
    def test_unusable_exif_is_no_orientation(self, exif):
        data = save(self.UPRIGHT, "JPEG", exif=exif)
        assert read_image(data, apply_orientation=True).size == self.UPRIGHT.size
        assert source_format(data).orientation == 1


class TestRefusals:
    def refuse(self, data, match=None, **options):
        with pytest.raises(ImageError, match=match) as caught:
            read_image(data, **options)
        assert "\n" not in str(caught.value)
        assert " at 0x" not in str(caught.value)

    def test_bomb(self):
        data = png(60000, 60000, 8, 2)
        assert len(data) < 100
        self.refuse(data)
        with pytest.raises(ImageError):
            source_format(data)

    @pytest.mark.parametrize("limit", [None, 10**12])
    def test_bomb_where_pillows_limit_was_lifted(self, limit, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        self.refuse(
            png(60000, 60000, 8, 2), f"60000x60000 pixels, more than the limit of {MAX_PIXELS}"
        )

    def test_webp_bomb(self):
        body = bytearray(FILES["webp lossy"])
        body[26:30] = struct.pack("<HH", 16383, 16383)
        self.refuse(bytes(body), "16383x16383")

    def test_limit_is_an_argument(self):
        count = PICTURE.width * PICTURE.height
        assert read_image(FILES["png"], max_pixels=count).size == PICTURE.size
        for name in ("png", "jpeg", "webp lossy", "gif", "bmp", "tiff", "ppm"):
            self.refuse(FILES[name], "more than the limit", max_pixels=count - 1)

    def test_large_pictures_neither_warn_nor_fail(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PICTURE.width * PICTURE.height - 1)
        assert read_image(FILES["png"]).size == PICTURE.size
        assert source_format(FILES["png"]).format == "PNG"

    def test_no_pixels(self):
        self.refuse(png(0, 5, 8, 2))

    def test_empty(self):
        self.refuse(b"", "empty")

    def test_formats_that_are_not_listed(self):
        for format_ in ("ICO", "PCX", "TGA", "SGI", "EPS"):
            self.refuse(save(PICTURE, format_), "not an intact JPEG, PNG")

    def test_formats_can_be_narrowed(self):
        self.refuse(FILES["png"], "not an intact JPEG file", formats=("JPEG",))
        self.refuse(FILES["webp lossy"], "not an intact JPEG file", formats=("JPEG",))

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("lax", [False, True])
    def test_every_seventh_cut(self, name, lax, monkeypatch):
        """A cut is refused, unless it is behind the last pixel."""
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lax)
        data = FILES[name]
        whole = read_image(data).tobytes()
        refused = 0
        for length in range(0, len(data), 7):
            try:
                assert read_image(data[:length]).tobytes() == whole
            except ImageError:
                refused += 1
        assert refused > len(range(0, len(data), 7)) - 5
        assert lax == ImageFile.LOAD_TRUNCATED_IMAGES

    def test_broken_checksum(self):
        data = bytearray(FILES["png"])
        data[data.index(b"IDAT") + 10] ^= 1
        self.refuse(bytes(data))

    def test_strictness_survives_threads(self, monkeypatch):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        cut = FILES["jpeg"][:-100]
        failures = []

        def work():
            for _ in range(50):
                read_image(FILES["jpeg"])
                try:
                    read_image(cut)
                except ImageError:
                    continue
                failures.append("a cut file was accepted")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert ImageFile.LOAD_TRUNCATED_IMAGES


def reads_or_refuses(data):
    for read in (read_image, source_format):
        with contextlib.suppress(ImageError):
            read(data, max_pixels=10**6)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), name=st.sampled_from(sorted(FILES)), keep=st.integers(0, 200))
def test_random_bytes(data, name, keep):
    reads_or_refuses(data)
    reads_or_refuses(FILES[name][:keep] + data)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage(data):
    damaged = bytearray(FILES[data.draw(st.sampled_from(sorted(FILES)))])
    for _ in range(data.draw(st.integers(1, 6))):
        # Half of the damage goes into the headers, where it does most.
        end = data.draw(st.sampled_from([min(100, len(damaged)), len(damaged)]))
        damaged[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    reads_or_refuses(bytes(damaged))


class TestSourceFormat:
    @pytest.mark.parametrize("quality", [1, 2, 3, 5, 49, 50, 75, 95, 100])
    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    def test_jpeg(self, quality, subsampling):
        data = save(PICTURE, "JPEG", quality=quality, subsampling=subsampling)
        assert source_format(data) == SourceFormat(
            format="JPEG",
            mode="RGB",
            bits=8,
            width=61,
            height=48,
            lossless=False,
            quality=quality,
            quality_exact=True,
            subsampling=subsampling,
        )

    def test_every_quality_is_told_apart(self):
        for mode in ("RGB", "L"):
            small = PICTURE.convert(mode)
            for quality in range(1, 101):
                found = source_format(save(small, "JPEG", quality=quality))
                assert (found.quality, found.quality_exact) == (quality, True)

    def test_other_tables_give_the_nearest_quality(self):
        tables = Image.open(io.BytesIO(save(PICTURE, "JPEG", quality=60))).quantization
        tables = [list(tables[0]), list(tables[1])]
        tables[0][5] += 1
        found = source_format(save(PICTURE, "JPEG", qtables=tables))
        assert (found.quality, found.quality_exact) == (60, False)
        assert str(found) == "JPEG q~60 4:2:0"

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("jpeg", "JPEG q75 4:2:0"),
            ("jpeg progressive", "JPEG q75 4:2:0 progressive"),
            ("jpeg grey", "JPEG q75 4:0:0"),
            ("jpeg cmyk", "JPEG q75 4:4:4"),
            ("png", "PNG"),
            ("webp lossy", "WEBP lossy"),
            ("webp lossless", "WEBP lossless"),
            ("webp animated", "WEBP lossy"),
            ("tiff", "TIFF"),
        ],
    )
    def test_short_form(self, name, text):
        assert str(source_format(FILES[name])) == text

    @pytest.mark.parametrize(
        ("data", "mode", "bits"),
        [
            (FILES["png"], "RGB", 8),
            (FILES["png palette"], "P", 8),
            (save(PICTURE.convert("1"), "PNG"), "1", 1),
            (save(PICTURE.convert("RGBA"), "PNG"), "RGBA", 8),
            (FILES["png 16 bits"], "I;16", 16),
            (png(1, 1, 16, 2, bytes(7)), "RGB", 16),
            (save(PICTURE.quantize(16), "PNG", bits=4), "P", 4),
            (FILES["tiff"], "RGB", 8),
            (save(Image.fromarray(np.zeros((2, 2), np.uint16)), "TIFF"), "I;16", 16),
            (save(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"), "F", 32),
            (FILES["jpeg cmyk"], "CMYK", 8),
            (b"P5 1 1 65535\n\0\0", "I", 16),
        ],
    )
    def test_mode_and_bits(self, data, mode, bits):
        found = source_format(data)
        assert (found.mode, found.bits) == (mode, bits)

    def test_lossless_or_not(self):
        lossy = {name for name, data in FILES.items() if source_format(data).lossless is False}
        unknown = {name for name, data in FILES.items() if source_format(data).lossless is None}
        assert lossy == {name for name in FILES if name.startswith("jpeg")} | {
            "webp lossy",
            "webp animated",
        }
        assert unknown == {"tiff", "tiff lzw"}

    def test_mpo(self):
        data = save(PICTURE, "MPO", save_all=True, append_images=[OTHER])
        assert str(source_format(data)) == "MPO q75 4:2:0"

    def test_pixels_are_not_decoded(self):
        scan = FILES["jpeg"].index(b"\xff\xda")
        assert source_format(FILES["jpeg"][: scan + 14]).quality == 75
        assert source_format(png(100, 100, 8, 2)).width == 100  # has no pixels at all


class TestEvaluatorParity:
    def test_is_pillows_default_jpeg(self):
        """Which is what the evaluator's ``image.save("0.jpg")`` writes."""
        expected = pixels(read_image(save(PICTURE, "JPEG")))
        assert (pixels(evaluator_parity(PICTURE)) == expected).all()
        assert str(source_format(save(PICTURE, "JPEG"))) == "JPEG q75 4:2:0"

    def test_grey_is_the_same_as_a_grey_jpeg(self):
        grey = PICTURE.convert("L")
        expected = pixels(read_image(save(grey, "JPEG")))
        assert (pixels(evaluator_parity(grey.convert("RGB"))) == expected).all()

    def test_changes_pixels_but_not_the_size(self):
        once = evaluator_parity(PICTURE)
        assert once.size == PICTURE.size
        assert (pixels(once) != np.asarray(PICTURE)).any()

    def test_limits(self):
        with pytest.raises(ImageError, match="JPEG"):
            evaluator_parity(Image.new("RGB", (65501, 1)))
        with pytest.raises(ImageError, match="mode L"):
            evaluator_parity(Image.new("L", (1, 1)))


def test_plain_rgb_leaves_the_original_alone():
    image = PICTURE.copy()
    image.info["comment"] = b"c"
    plain = plain_rgb(image)
    assert plain.info == {}
    assert image.info == {"comment": b"c"}
    plain.putpixel((0, 0), (9, 9, 9))
    assert image.getpixel((0, 0)) != (9, 9, 9)


def test_plain_rgb_refuses_what_is_not_rgb():
    with pytest.raises(ImageError, match="mode RGBA"):
        plain_rgb(Image.new("RGBA", (1, 1)))
    with pytest.raises(ImageError, match="no pixels"):
        plain_rgb(Image.new("RGB", (0, 1)))


def test_content_hash():
    assert content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert content_hash(b"a") != content_hash(b"b")
