import io

import numpy as np
import pytest
from lossylens.images.jpeg_quality import QualityEstimate, estimate_quality, standard_tables
from lossylens_codec_jpeg.jpegfile import (
    EOI,
    SOS,
    JpegFormatError,
    read_header,
    read_scans,
)
from PIL import Image

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8))


def jpeg(image=NOISE, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", range(1, 101))
def test_tables_are_libjpegs(quality):
    data = jpeg(quality=quality)
    header = read_header(data)
    pillow = Image.open(io.BytesIO(data)).quantization
    assert {number: tuple(table) for number, table in pillow.items()} == dict(header.tables)
    assert (header.tables[0], header.tables[1]) == standard_tables(quality)
    assert estimate_quality(header.leading_tables()) == QualityEstimate(quality, True)


@pytest.mark.parametrize("quality", [0, 101])
def test_tables_outside_the_scale(quality):
    with pytest.raises(ValueError, match="outside"):
        standard_tables(quality)


@pytest.mark.parametrize(
    ("subsampling", "name", "blocks"),
    [
        (0, "4:4:4", 3 * 5 * 7),
        (1, "4:2:2", 5 * 7 + 2 * 5 * 4),
        (2, "4:2:0", 5 * 7 + 2 * 3 * 4),
    ],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_header(subsampling, name, blocks, progressive):
    header = read_header(jpeg(subsampling=subsampling, progressive=progressive))
    assert (header.width, header.height, header.precision) == (50, 37, 8)
    assert header.progressive is progressive
    assert header.subsampling == name
    assert header.blocks() == blocks
    assert header.markers[-1] == SOS


def test_unusual_sampling_is_spelt_out():
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 11
    data[at] = 0x12
    assert read_header(bytes(data)).subsampling == "4:4:0"
    data[at] = 0x31
    assert read_header(bytes(data)).subsampling == "3x1"
    data[at + 3] = 0x21
    assert read_header(bytes(data)).subsampling == "3x1,2x1,1x1"


def test_tables_of_16_bits():
    data = jpeg(qtables=[[300] * 64, [1] * 64])
    header = read_header(data)
    assert set(header.tables[0]) == {300}
    assert not estimate_quality(header.leading_tables()).exact


def test_fill_bytes_before_markers():
    data = jpeg()
    assert read_header(data[:2] + b"\xff\xff" + data[2:]).width == 50
    assert read_scans(data[:-2] + b"\xff\xff" + data[-2:], read_header(data)) == (EOI,)


def test_restart_markers_do_not_end_a_scan():
    data = jpeg(restart_marker_blocks=1)
    assert b"\xff\xd1" in data
    assert read_scans(data, read_header(data)) == (EOI,)


@pytest.mark.parametrize("progressive", [False, True])
def test_every_cut_is_found(progressive):
    data = jpeg(progressive=progressive, quality=1)  # whose tables are full of FF bytes
    scans = read_scans(data, read_header(data))
    assert scans.count(SOS) == (9 if progressive else 0)
    assert scans[-1] == EOI
    for length in range(len(data)):
        with pytest.raises(JpegFormatError):
            read_scans(data[:length], read_header(data[:length]))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"\xff\xd8", b"\x00\x00", "no start-of-image"),
        (b"\xff\xdb", b"\x00\xdb", "no marker at byte"),
        (b"\xff\xdb\0\x43", b"\xff\xdb\0\x01", "broken segment"),
        (b"\xff\xdb\0\x43\0", b"\xff\xdb\0\x43\x20", "broken quantisation table"),
        (b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x03\x08", "no marker|broken frame"),
        (b"\x03\x01\x22", b"\x02\x01\x22", "broken frame header"),
        (b"\x03\x01\x22", b"\x03\x01\x05", "broken sampling"),
        (b"\xff\xc0", b"\xff\xe1", "precedes the frame"),
    ],
)
def test_broken_headers(old, new, reason):
    data = jpeg()
    assert old in data
    with pytest.raises(JpegFormatError, match=reason):
        read_header(data.replace(old, new, 1))


def test_two_frames():
    data = jpeg()
    at = data.index(b"\xff\xc0")
    with pytest.raises(JpegFormatError, match="two frame headers"):
        read_header(data[:at] + data[at : at + 19] + data[at:])


def test_missing_table():
    header = read_header(jpeg().replace(b"\xff\xdb\0\x43\x01", b"\xff\xdb\0\x43\x03", 1))
    with pytest.raises(JpegFormatError, match="table 1 is missing"):
        estimate_quality(header.leading_tables())
