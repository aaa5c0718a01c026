import binascii
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens.errors import BitstreamError
from lossylens_toolkit.neural_codec.container import Content, pack, unpack

CONTENT = Content("tiny/q1", 300, 200, 0x1234, 0xABCD, True, b"hyper", b"latents")


def read(bitstream, level="tiny/q1", max_pixels=10**6):
    return unpack(bitstream, level, ["tiny/q2", "tiny/q1"], max_pixels)


def with_checksum(body):
    return b"\xc1" + struct.pack("<H", binascii.crc_hqx(body, 0)) + body


@given(
    width=st.integers(1, 2**14),
    height=st.integers(1, 2**14),
    float64=st.booleans(),
    z=st.binary(max_size=300),
    y=st.binary(max_size=300),
)
def test_round_trip(width, height, float64, z, y):
    content = Content("tiny/q1", width, height, 7, 8, float64, z, y)
    bitstream = pack(content)
    assert read(bitstream, max_pixels=2**28) == content
    assert len(bitstream) <= 16 + len(z) + len(y)


def test_level_is_named():
    with pytest.raises(BitstreamError, match=r"of tiny/q1; this is tiny/q2"):
        read(pack(CONTENT), "tiny/q2")
    with pytest.raises(BitstreamError, match="another codec or level; this is tiny/q1"):
        read(pack(Content("else/q1", 1, 1, 0, 0, False, b"", b"")))


def test_version_is_named():
    bitstream = bytearray(pack(CONTENT))
    bitstream[0] = 0xC2
    with pytest.raises(BitstreamError, match="version 2; this is version 1"):
        read(bytes(bitstream))


@pytest.mark.parametrize("other", [b"", b"\xc1", b"\xff\xd8\xff" + b"0" * 20, b"RIFF" + b"0" * 20])
def test_other_files(other):
    with pytest.raises(BitstreamError, match="not a bitstream of a learned codec"):
        read(other)


def test_every_cut_and_every_changed_byte():
    bitstream = pack(CONTENT)
    for length in range(len(bitstream)):
        with pytest.raises(BitstreamError):
            read(bitstream[:length])
    for position in range(1, len(bitstream)):
        damaged = bytearray(bitstream)
        damaged[position] ^= 1
        with pytest.raises(BitstreamError):
            read(bytes(damaged))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (b"\x00\x05\x00", "claims 0x5"),
        (b"\xff\xff\xff\x7f\xff\xff\xff\x7f\x00", "admitted"),
        (b"\x05\x05\x09", "longer than the bitstream"),
        (b"\x05\x05", "does not end"),
        (b"\xff\xff\xff\xff\x01\x05\x00", "does not end"),
    ],
)
def test_hostile_numbers(numbers, message):
    head = pack(Content("tiny/q1", 1, 1, 0, 0, False, b"", b""))[3:9]
    with pytest.raises(BitstreamError, match=message):
        read(with_checksum(head + numbers))


@given(st.binary(max_size=60))
def test_random_bodies(tail):
    head = pack(CONTENT)[3:9]
    try:
        content = read(with_checksum(head + tail))
    except BitstreamError:
        return
    assert content.width * content.height <= 10**6
