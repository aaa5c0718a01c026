"""The codec that does not compress."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens.codec import Level
from lossylens.errors import BitstreamError, ImageError
from lossylens.spec import NoOptions
from lossylens.uncompressed import Uncompressed
from PIL import Image

CODEC = Uncompressed(Level("raw"), NoOptions())


def picture(width: int, height: int) -> Image.Image:
    samples = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(samples)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (64, 48)])
def test_round_trip_is_exact(size):
    image = picture(*size)
    bitstream = CODEC.encode(image)
    decoded = CODEC.decode(bitstream)
    assert decoded.mode == "RGB"
    assert decoded.size == size
    assert decoded.tobytes() == image.tobytes()
    # Magic, version and size are part of the bitstream.
    assert len(bitstream) == 3 * size[0] * size[1] + 13


def test_only_rgb_is_taken():
    with pytest.raises(ImageError, match="RGBA"):
        CODEC.encode(Image.new("RGBA", (2, 2)))


@given(st.binary(max_size=64))
def test_noise_is_refused(noise):
    with pytest.raises(BitstreamError):
        CODEC.decode(noise)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda b: b[:-1], "the bitstream has"),
        (lambda b: b + b"x", "the bitstream has"),
        (lambda b: b[:12], "too few for the header"),
        (lambda b: b"JPEG" + b[4:], "not a bitstream of this codec"),
        (lambda b: b[:4] + b"\2" + b[5:], "format version 2 is unknown"),
        (lambda b: b[:5] + struct.pack(">II", 2**32 - 1, 2**32 - 1) + b[13:], "4294967295x"),
        (lambda b: b[:5] + struct.pack(">II", 0, 4), "0x4"),
    ],
)
def test_a_damaged_bitstream_is_refused(damage, expected):
    with pytest.raises(BitstreamError, match=expected):
        CODEC.decode(damage(CODEC.encode(picture(4, 4))))
