import io
import struct

import pytest
from lossylens.images.webpfile import (
    Chunk,
    WebpFormatError,
    canvas_size,
    check_whole,
    chunks,
    vp8_size,
)
from PIL import Image


def webp(size=(50, 37), **options):
    buffer = io.BytesIO()
    Image.new(options.pop("mode", "RGB"), size, 0).save(buffer, "WEBP", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (50, 37), (16383, 1), (1, 16383)])
@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"icc_profile": b"odd"}, {"mode": "RGBA"}], ids=str
)
def test_size_and_wholeness(size, options):
    data = webp(size, **options)
    assert canvas_size(data) == size
    found = check_whole(data)
    assert all(chunk.whole for chunk in found)
    for length in {*range(0, len(data), 5), len(data) - 1}:
        with pytest.raises(WebpFormatError):
            check_whole(data[:length])
    with pytest.raises(WebpFormatError, match="extended"):
        check_whole(data + b"\0")


def test_a_cut_chunk_is_not_whole():
    (found,) = chunks(webp()[:40])
    assert found.code == b"VP8 "
    assert len(found.body) == 20
    assert not found.whole


def test_trailing_bytes_inside_the_riff_size():
    data = webp() + b"\0\0"
    data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    with pytest.raises(WebpFormatError, match="broken chunk"):
        check_whole(data)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\4\0\0\0WEBP"])
def test_no_header(data):
    with pytest.raises(WebpFormatError):
        canvas_size(data)


def test_only_key_frames_have_a_size():
    body = bytearray(chunks(webp())[0].body)
    assert vp8_size(bytes(body)) == (50, 37)
    body[0] |= 1
    with pytest.raises(WebpFormatError, match="key frame"):
        vp8_size(bytes(body))


def test_chunk_knows_when_it_is_whole():
    assert Chunk(b"ABCD", b"xy", 2).whole
    assert not Chunk(b"ABCD", b"xy", 3).whole
