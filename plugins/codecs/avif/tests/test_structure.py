"""What is left of an AVIF file when one thing in it is not as it should be."""

import pytest
from lossylens.testing.pictures import picture
from lossylens_codec_avif.codec import Avif
from lossylens_codec_avif.plugin import AvifOptions
from lossylens_codec_avif.structure import AvifFormatError, picture_size
from lossylens_toolkit.quality import quality_level


@pytest.fixture(scope="module")
def whole():
    return Avif(quality_level(10), AvifOptions()).encode(picture(20, 30))


def test_size(whole):
    assert picture_size(whole) == (30, 20)


@pytest.mark.parametrize("size", [(1, 1), (255, 3), (3, 257), (1000, 8)])
def test_sizes(size):
    encoded = Avif(quality_level(0), AvifOptions(speed=10)).encode(picture(*size[::-1]))
    assert picture_size(encoded) == size


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"ftypavif", b"ftypavis", "not an AVIF"),
        (b"hdlr", b"free", "structure"),
        (b"mdat", b"free", "structure"),
        (b"av01Color", b"gridColor", "not one single picture"),
        (b"pitm\0\0\0\0\0\1", b"pitm\0\0\0\0\0\2", "not one single picture"),
        (b"iloc\0\0\0\0\x44\0\0\1", b"iloc\0\0\0\0\x44\0\0\2", "not one single picture"),
        (b"ispe", b"irot", "unexpected properties"),
        (b"pixi", b"clap", "unexpected properties"),
        (b"\0\0\0\x1e\0\0\0\x14", b"\0\0\0\x1f\0\0\0\x14", "sizes in its headers differ"),
        (b"meta\0", b"meta\1", "unknown version"),
        (b"mdat\x12\0\x0a", b"mdat\x12\0\x12", "not one AV1 still picture"),
        (b"mdat\x12\0\x0a", b"mdat\x12\0\x08", "unexpected unit"),
        (b"mdat\x12\0\x0a", b"mdat\x12\x7f\x0a", "."),
        (b"mdat\x12\0", b"mdat\x12\xff", "."),
    ],
)
def test_one_thing_is_wrong(old, new, reason, whole):
    assert old in whole
    with pytest.raises(AvifFormatError, match=reason):
        picture_size(whole.replace(old, new, 1))


def test_box_sizes_that_mean_something_else(whole):
    """0 is "to the end of the file" and 1 "64 bits follow"; libavif writes neither."""
    start = whole.index(b"mdat") - 4
    for size in (0, 1, 7, 2**32 - 1):
        with pytest.raises(AvifFormatError, match="box"):
            picture_size(whole[:start] + size.to_bytes(4, "big") + whole[start + 4 :])


def test_a_second_sequence_header(whole):
    """It could announce another size than the one that was checked."""
    start = whole.index(b"mdat") + 4
    stream = whole[start:]
    header = stream[2 : 4 + stream[3]]
    doubled = stream[:2] + header + stream[2:]
    sizes = [len(part).to_bytes(4, "big") for part in (stream, doubled)]
    metadata = whole[: start - 8].replace(sizes[0], sizes[1])
    size = (len(doubled) + 8).to_bytes(4, "big")
    with pytest.raises(AvifFormatError, match="still picture"):
        picture_size(metadata + size + b"mdat" + doubled)
