"""Codecs around a coder that checks nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens.codec import Level
from lossylens.errors import BitstreamError, ImageError
from lossylens.testing.pictures import picture
from lossylens_toolkit.checked_codec import CheckedCodec
from PIL import Image


class Raw(CheckedCodec):
    """Two bytes of size and the samples; trusts whatever it is given."""

    def compress(self, image):
        assert (image.mode, image.info) == ("RGB", {})
        return bytes(image.size) + image.tobytes()

    def decompress(self, payload):
        return Image.frombytes("RGB", (payload[0], payload[1]), payload[2:])


class Newer(Raw):
    version = 2


class Unlucky(Raw):
    def decompress(self, payload):
        raise RuntimeError("no luck")


class Grey(Raw):
    def decompress(self, payload):
        return super().decompress(payload).convert("L")


LOW, HIGH = Level("low"), Level("high")
IMAGE = picture(5, 4)
BITSTREAM = Raw(LOW, None).encode(IMAGE)


def test_four_bytes_are_added() -> None:
    assert len(BITSTREAM) == 4 + 2 + 3 * 20
    assert Raw(LOW, None).decode(BITSTREAM).tobytes() == IMAGE.tobytes()


def test_metadata_never_reach_the_coder() -> None:
    laden = IMAGE.copy()
    laden.info["comment"] = b"long"
    assert Raw(LOW, None).encode(laden) == BITSTREAM


@pytest.mark.parametrize("image", [Image.new("L", (2, 2)), Image.new("RGB", (0, 2))])
def test_what_is_no_rgb_image_is_refused(image: Image.Image) -> None:
    with pytest.raises(ImageError):
        Raw(LOW, None).encode(image)


@pytest.mark.parametrize("codec", [Raw(HIGH, None), Newer(LOW, None), Grey(LOW, None)])
def test_bitstreams_of_another_codec_version_or_level_are_refused(codec: CheckedCodec) -> None:
    with pytest.raises(BitstreamError, match="damaged, or not of version"):
        codec.decode(BITSTREAM)


@given(st.data())
def test_damage_is_noticed(data: st.DataObject) -> None:
    damaged = bytearray(BITSTREAM)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    cut = BITSTREAM[: data.draw(st.integers(0, len(BITSTREAM) - 1))]
    for bitstream in (bytes(damaged), cut, BITSTREAM + b"x"):
        with pytest.raises(BitstreamError):
            Raw(LOW, None).decode(bitstream)


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Unlucky, "cannot be decoded: no luck"), (Grey, "an RGB image is needed, not one of mode L")],
)
def test_whatever_the_coder_does_is_a_bitstream_error(kind: type[Raw], why: str) -> None:
    codec = kind(LOW, None)
    with pytest.raises(BitstreamError, match=why):
        codec.decode(codec.encode(IMAGE))
