"""What streams say of themselves, compared with ffmpeg and x265 where PyAV is installed."""

import random
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens.errors import BitstreamError
from lossylens_toolkit.external_codec.fake_program import (
    golomb,
    hevc_set,
    packed,
    protected,
    vvc_set,
)
from lossylens_toolkit.external_codec.nal import CodedPicture, read_hevc, read_vvc

HEVC_SLICE, VVC_SLICE = b"\x26\x01\x80\x12\x80", b"\x00\x39\x80\x12\x80"


def stream(*units):
    return b"".join(b"\0\0\0\1" + protected(unit) for unit in units)


SIZES = st.integers(1, 20000)


@given(SIZES, SIZES, st.sampled_from(["420", "444"]), st.sampled_from([8, 10, 12]))
def test_hevc(width, height, chroma, depth):
    step = 2 if chroma == "420" else 1
    width, height = width * step, height * step
    data = stream(hevc_set(width, height, chroma, depth), HEVC_SLICE)
    assert read_hevc(data) == CodedPicture(width, height, f"4:{chroma[1]}:{chroma[2]}", depth)


@given(SIZES, SIZES, st.sampled_from(["420", "444"]))
def test_vvc(width, height, chroma):
    step = 2 if chroma == "420" else 1
    width, height = width * step, height * step
    data = stream(vvc_set(width, height, chroma, 10), VVC_SLICE)
    assert read_vvc(data) == CodedPicture(width, height, f"4:{chroma[1]}:{chroma[2]}")


@pytest.mark.parametrize(
    ("units", "match"),
    [
        ((), "no start code"),
        ((HEVC_SLICE,), "not one picture"),
        ((hevc_set(8, 8, "444", 8),), "no picture in it"),
        ((hevc_set(8, 8, "444", 8), HEVC_SLICE, HEVC_SLICE), "not one picture"),
        ((hevc_set(8, 8, "444", 8), hevc_set(9, 9, "444", 8), HEVC_SLICE), "not one picture"),
        ((hevc_set(8, 8, "444", 8)[:9], HEVC_SLICE), "parameter set is cut"),
        ((hevc_set(8, 8, "444", 8), b"\x26"), "broken NAL unit"),
        ((b"\x80\x01\x01\x01", HEVC_SLICE), "broken NAL unit"),
    ],
)
def test_refusals(units, match):
    with pytest.raises(BitstreamError, match=match):
        read_hevc(stream(*units))


@pytest.mark.parametrize("reader", [read_hevc, read_vvc])
@given(data=st.binary(max_size=60))
def test_anything_is_refused_or_read(reader, data):
    for start in (b"", b"\0\0\1", b"\0\0\1\x42\x01", b"\0\0\1\0\x79"):
        try:
            reader(start + data + b"\0\0\1" + HEVC_SLICE)
        except BitstreamError:
            continue


@pytest.mark.parametrize("size", [(32, 32), (157, 203), (50, 36)])
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv420p", "yuv444p10le"])
def test_streams_of_x265(size, pixels):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    width, height = (side + side % 2 for side in size) if pixels == "yuv420p" else size
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, pixels
    encoder.time_base = Fraction(1, 1)
    encoder.options = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=1:pools=none"}
    frame = av.VideoFrame(width, height, pixels)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    data = b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)]))
    depth = 10 if "10" in pixels else 8
    subsampling = "4:2:0" if "420" in pixels else "4:4:4"
    assert read_hevc(data) == CodedPicture(width, height, subsampling, depth)


@pytest.mark.parametrize("seed", range(12))
def test_vvc_as_ffmpeg_reads_it(seed):
    """Parameter sets with sublayers, constraints, sub-profiles and resampling."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    bitstream = pytest.importorskip("av.bitstream")
    logging = pytest.importorskip("av.logging")

    width, height, unit = random_vvc_set(random.Random(seed))
    before = logging.get_level()
    logging.set_level(logging.INFO)
    try:
        with logging.Capture() as lines:
            trace = bitstream.BitStreamFilterContext("trace_headers", av.Codec("vvc", "r"))
            # Only its beginning is a sound set, so ffmpeg gives up behind it.
            with pytest.raises(av.error.FFmpegError):
                trace.filter(av.Packet(stream(unit)))
    finally:
        logging.set_level(before)
    text = "\n".join(line for _, _, line in lines)

    def value(name, default=None):
        found = re.search(rf"{name}\s+\S+ = (\d+)", text)
        return int(found[1]) if found else default

    step = 2 if value("sps_chroma_format_idc") == 1 else 1
    right = value("sps_conf_win_right_offset", 0)
    below = value("sps_conf_win_bottom_offset", 0)
    seen = (
        value("sps_pic_width_max_in_luma_samples") - step * right,
        value("sps_pic_height_max_in_luma_samples") - step * below,
    )
    found = read_vvc(stream(unit, VVC_SLICE))
    assert (found.width, found.height) == seen == (width, height)


def random_vvc_set(generator):
    """Return width, height and a parameter set with much that could be in the way."""
    flag = lambda: generator.choice("01")  # noqa: E731
    sublayers, chroma = generator.randrange(6), generator.choice([1, 3])
    bits = f"{15 << 3 | 1:016b}" + "0000" + "0000" + f"{sublayers:03b}{chroma:02b}" + "10" + "1"
    constrained = flag()
    bits += f"{33:07b}" + "0" + f"{80:08b}" + "1" + "0" + constrained
    if constrained == "1":
        bits += "0" * 71 + "00000000"
    bits += "0" * (-len(bits) % 8)
    present = [flag() for _ in range(sublayers)]
    bits += "".join(present)
    bits += "0" * (-len(bits) % 8) + f"{64:08b}" * present.count("1")
    profiles = generator.choice([0, 2])
    bits += f"{profiles:08b}" + f"{generator.getrandbits(32):032b}" * profiles
    resampling = flag()
    bits += "0" + resampling + ("0" if resampling == "1" else "")
    width, height = (8 * generator.randrange(1, 2000) for _ in range(2))
    crop = [generator.randrange(4) for _ in range(2)]
    bits += golomb(width) + golomb(height) + "1"
    bits += golomb(0) + golomb(crop[0]) + golomb(0) + golomb(crop[1])
    step = 2 if chroma == 1 else 1
    return width - step * crop[0], height - step * crop[1], packed(bits + "0" * 400)
