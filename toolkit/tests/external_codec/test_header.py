import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens.errors import BitstreamError
from lossylens_toolkit.external_codec.bitstream_header import BitstreamHeader, unwrap, wrap
from lossylens_toolkit.external_codec.yuv import Conversion

STREAM = b"\0\0\0\1stream"

HEADERS = [
    BitstreamHeader(Conversion(*conversion), size)
    for *conversion, size in itertools.product(
        ("bt709", "bt601", "rgb"), (True, False), (8, 10), (None, (1, 16384), (127, 128))
    )
]


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_there_and_back(header, checked):
    assert unwrap(wrap(header, STREAM, checked=checked)) == (header, STREAM)


def test_the_default_takes_no_bytes():
    assert wrap(BitstreamHeader(Conversion()), STREAM, checked=False) == STREAM


@pytest.mark.parametrize(
    ("header", "checked", "length"),
    [
        (BitstreamHeader(Conversion("bt601")), False, 1),
        (BitstreamHeader(Conversion(), (203, 157)), False, 5),
        (BitstreamHeader(Conversion()), True, 5),
    ],
)
def test_length(header, checked, length):
    assert len(wrap(header, STREAM, checked=checked)) == len(STREAM) + length


@pytest.mark.parametrize(
    ("bitstream", "match"),
    [
        (b"", "empty"),
        (b"\x03" + STREAM, "later version"),
        (b"\x40" + STREAM, "later version"),
        (b"\x10\xff\xff\xff\x01\x01" + STREAM, "no end"),
        (b"\x10\x01", "no end"),
        (b"\x20\0\0\0\0" + STREAM, "checksum"),
        (b"\x20", "checksum"),
    ],
)
def test_refusals(bitstream, match):
    with pytest.raises(BitstreamError, match=match):
        unwrap(bitstream)


@given(st.integers(0, 8 * 20 - 1))
def test_a_checksum_notices_every_flipped_bit(place):
    damaged = bytearray(wrap(BitstreamHeader(Conversion("bt601"), (5, 300)), STREAM, checked=True))
    place %= 8 * len(damaged)
    damaged[place // 8] ^= 1 << place % 8
    if not damaged[0] & 32:
        return  # it says now that there is none
    with pytest.raises(BitstreamError):
        unwrap(bytes(damaged))
