"""A file is whole if no pixel is missing, whatever follows the pixels or does not."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from lossylens.errors import ImageError
from lossylens.images import read_image
from PIL import Image, ImageFilter

NOISE = np.random.default_rng(5).integers(0, 256, (75, 110, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE).filter(ImageFilter.GaussianBlur(1.5))
EOI = b"\xff\xd9"

JPEGS = {
    "baseline": {},
    "optimised": {"optimize": True},
    "4:4:4": {"subsampling": 0, "quality": 95},
    "low quality": {"quality": 20},
    "progressive": {"progressive": True},
    "fine progressive": {"progressive": True, "quality": 95},
    "restarts": {"restart_marker_rows": 1},
    "many restarts": {"restart_marker_blocks": 1},
    "progressive restarts": {"progressive": True, "restart_marker_blocks": 3},
}


def saved(format_: str, mode: str = "RGB", picture: Image.Image = PICTURE, **options) -> bytes:
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, format_, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> bytes:
    return read_image(data).tobytes()


@pytest.fixture(params=["RGB", "L", "CMYK"])
def mode(request):
    return request.param


@pytest.fixture(params=JPEGS)
def jpeg(request, mode) -> bytes:
    return saved("JPEG", mode, **JPEGS[request.param])


def test_a_jpeg_is_read_as_pillow_reads_it(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        assert pixels(jpeg) == image.convert("RGB").tobytes()


def test_a_jpeg_needs_no_end_marker(jpeg):
    whole = pixels(jpeg)
    for changed in (jpeg[:-2], jpeg[:-1], jpeg[:-2] + b"\xff\xff\xff"):
        assert pixels(changed) == whole


def test_what_follows_the_end_marker_does_not_matter(jpeg):
    whole = pixels(jpeg)
    for rest in (b"\0" * 1000, jpeg, jpeg[: len(jpeg) // 2], b"\xff"):
        assert pixels(jpeg + rest) == whole


def test_a_jpeg_cut_within_its_data_is_refused(jpeg):
    """With end marker or without, or filled up to its size with zeros as by a broken download.

    What is missing before an end marker shows from some more bytes on than libjpeg looks ahead.
    """
    for cut in [*range(16, 40), *range(40, len(jpeg) - 640, 97)]:
        rest = jpeg[: -2 - cut]
        for changed in (rest, rest + b"\xff", rest + EOI, rest + bytes(cut + 2)):
            with pytest.raises(ImageError):
                read_image(changed)


def test_a_jpeg_cut_by_a_few_bytes_without_an_end_marker_is_refused_or_the_same(jpeg):
    """Bits that fill the last byte up, or that no pixel shows, may be missing."""
    whole = pixels(jpeg)
    read = []
    for cut in range(1, 12):
        try:
            assert pixels(jpeg[: -2 - cut]) == whole
            read.append(cut)
        except ImageError:
            continue
    assert set(read) <= {1}


def test_a_header_that_claims_too_much_is_refused_at_once():
    data = bytearray(saved("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 13000, 13000)
    with pytest.raises(ImageError, match=r"truncated: 13000x13000 pixels need at least \d+ bytes"):
        read_image(bytes(data))


@pytest.mark.parametrize("options", JPEGS.values(), ids=list(JPEGS))
def test_a_header_that_claims_some_more_lines_is_refused(options):
    data = bytearray(saved("JPEG", **options))
    at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0") + 5
    data[at : at + 2] = struct.pack(">H", 75 + 16)
    with pytest.raises(ImageError, match="truncated"):
        read_image(bytes(data))


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    data = saved("JPEG", progressive=True)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 4
    for start in starts[1:]:
        # Tables may precede the scan.
        for changed in (data[:start], data[:start] + EOI):
            with pytest.raises(ImageError, match="truncated"):
                read_image(changed)


def test_several_pictures_in_a_jpeg():
    data = saved("MPO", save_all=True, append_images=[PICTURE.rotate(180)])
    second = data.index(EOI + b"\xff\xd8") + 2
    assert pixels(data[:second]) == pixels(data)
    with pytest.raises(ImageError, match="truncated"):
        read_image(data[: second - 30] + data[second - 2 :])


OTHERS = {
    "PNG": saved("PNG"),
    "PNG palette": saved("PNG", "P"),
    "PNG bits": saved("PNG", "1"),
    "GIF": saved("GIF", "P"),
    "BMP": saved("BMP"),
    "PPM": saved("PPM"),
    "TIFF": saved("TIFF"),
    "TIFF LZW": saved("TIFF", compression="tiff_lzw"),
    "WebP": saved("WEBP"),
    "WebP lossless": saved("WEBP", lossless=True),
}
#: Bytes behind the last pixel: IEND and checksums, the end of GIF's blocks, BMP's padding.
SPARE = {"PNG": 21, "PNG palette": 21, "PNG bits": 21, "GIF": 2, "BMP": 2}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_that_are_cut(name):
    data, spare = OTHERS[name], SPARE.get(name, 0)
    whole = pixels(data)
    for cut in range(1, spare + 1):
        assert pixels(data[:-cut]) == whole
    # A byte may hold bits that end the compressed data alone.
    first = spare + 2 if spare else 1
    for cut in [*range(first, first + 30), *range(first + 30, len(data), 211)]:
        with pytest.raises(ImageError):
            read_image(data[:-cut])


def chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def png(rows: bytes, width: int, height: int, kind: tuple[int, int], interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, *kind, 0, 0, interlaced)
    packed = zlib.compress(rows)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"PLTE", bytes(768)) if kind[1] == 3 else b"",
            # In two chunks, as of any size.
            chunk(b"IDAT", packed[:5]) + chunk(b"IDAT", packed[5:]),
            chunk(b"IEND", b""),
        ]
    )


@pytest.mark.parametrize("kind", [(8, 2), (8, 0), (1, 0), (4, 3), (16, 0), (8, 6), (8, 4), (16, 2)])
@pytest.mark.parametrize("fill", [b"\0", b"\xa5", b"\xff"])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_a_png_that_ends_in_good_order_before_its_last_row_is_refused(kind, fill, interlaced):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind[1]]
    sizes = [(9, 7)]
    if interlaced:  # the passes of a picture of 9x7, by the specification's figure
        sizes = [(2, 1), (1, 1), (3, 1), (2, 2), (5, 2), (4, 4), (9, 3)]
    lines = [b"\0" + fill * -(-w * kind[0] * channels // 8) for w, h in sizes for _ in range(h)]
    read_image(png(b"".join(lines), 9, 7, kind, interlaced))
    for number in range(len(lines)):
        with pytest.raises(ImageError):
            read_image(png(b"".join(lines[:number]), 9, 7, kind, interlaced))
