"""Conversions round: no error beyond half a code, and none on average."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens_toolkit.external_codec.yuv import (
    MATRICES,
    Conversion,
    Frame,
    pad,
    to_depth,
    to_raw,
    to_rgb,
)

CONVERSIONS = [
    Conversion(matrix, full_range, depth)
    for matrix in ("bt709", "bt601", "rgb")
    for full_range in (True, False)
    for depth in (8, 10)
    if full_range or matrix != "rgb"
]


def frame_of(rgb, conversion, subsampling="4:4:4"):
    return Frame(rgb.shape[1], rgb.shape[0], subsampling, conversion.depth)


def planes_of(rgb, conversion, subsampling="4:4:4"):
    frame = frame_of(rgb, conversion, subsampling)
    raw = to_raw(rgb, frame, conversion)
    assert len(raw) == frame.size
    samples = np.frombuffer(raw, "u1" if conversion.depth == 8 else "<u2").astype(int)
    planes, start = [], 0
    for height, width in frame.planes:
        planes.append(samples[start : start + height * width].reshape(height, width))
        start += height * width
    return planes


def there_and_back(rgb, conversion, subsampling="4:4:4"):
    frame = frame_of(rgb, conversion, subsampling)
    return to_rgb(to_raw(rgb, frame, conversion), frame, conversion)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def grey_ramp():
    return np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)


@pytest.mark.parametrize("conversion", CONVERSIONS, ids=str)
def test_grey_ramp(conversion):
    """Truncation would darken it: by half a code on the way there, and half on the way back."""
    ramp = grey_ramp()
    luma, *chroma = planes_of(ramp, conversion)
    grey = ramp[..., 0].astype(int)
    if conversion.full_range and conversion.depth == 8:
        assert (luma == grey).all()
    if conversion.matrix != "rgb":
        neutral = 2 ** (conversion.depth - 1)
        low = neutral - 1 if conversion.full_range else neutral
        assert {*np.unique(chroma)} <= {low, neutral}
    back = there_and_back(ramp, conversion).astype(int)
    assert abs(back - ramp).max() <= 1
    assert abs(planes_of(back.astype(np.uint8), conversion)[0] - luma).max() <= 1
    # Full-range chroma has no code for neutral, so red and blue may go up, and green down.
    weights = MATRICES.get(conversion.matrix, (1 / 3, 1 / 3, 1 / 3))
    assert abs(((back - ramp) @ np.array(weights)).mean()) < 0.3


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("depth", [8, 10])
def test_codes_are_the_nearest(matrix, depth):
    """Compared with exact arithmetic on every level of red, green and blue in steps of 5."""
    levels = np.arange(0, 256, 5)
    rgb = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(52, -1, 3).astype(np.uint8)
    red, green, blue = (rgb[..., channel].astype(np.longdouble) / 255 for channel in range(3))
    weights = [np.longdouble(str(weight)) for weight in MATRICES[matrix]]
    luma = weights[0] * red + weights[1] * green + weights[2] * blue
    exact = [luma, (blue - luma) / (2 - 2 * weights[2]), (red - luma) / (2 - 2 * weights[0])]
    largest = 2**depth - 1
    for index, plane in enumerate(planes_of(rgb, Conversion(matrix, depth=depth))):
        value = largest * (exact[index] + (0.5 if index else 0))
        assert abs(plane - value).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("conversion", CONVERSIONS, ids=str)
def test_there_and_back(conversion):
    rgb = noise(300, 64)
    error = there_and_back(rgb, conversion).astype(int) - rgb
    if conversion.matrix == "rgb":
        assert not error.any()
    assert abs(error).max() <= (1 if conversion.depth == 10 else 3)
    assert abs(error.mean(axis=(0, 1))).max() < 0.1


@pytest.mark.parametrize("matrix", MATRICES)
def test_limited_range(matrix):
    colours = np.array([[(0, 0, 0), (255, 255, 255), (0, 0, 255), (255, 0, 0)]], np.uint8)
    luma, blueness, redness = planes_of(colours, Conversion(matrix, full_range=False))
    assert luma[0, :2].tolist() == [16, 235]
    assert blueness[0].tolist()[:3] == [128, 128, 240]
    assert redness[0, 3] == 240
    luma, blueness, _ = planes_of(colours, Conversion(matrix, full_range=False, depth=10))
    assert luma[0, :2].tolist() == [64, 940]
    assert blueness[0, 2] == 960


def test_without_a_matrix_the_planes_are_green_blue_red():
    rgb = noise(4, 6)
    green, blue, red = planes_of(rgb, Conversion("rgb"))
    assert (np.stack([red, green, blue], -1) == rgb).all()


def test_subsampled_chroma_is_the_mean_before_rounding():
    """Four codes of which each rounds up would round to one more than their mean."""
    rgb = noise(600, 32)
    conversion = Conversion("bt601")
    full, half = planes_of(rgb, conversion), planes_of(rgb, conversion, "4:2:0")
    assert (half[0] == full[0]).all()
    for index in (1, 2):
        means = full[index].reshape(300, 2, 16, 2).mean(axis=(1, 3))
        assert abs(half[index] - means).max() <= 1
        assert abs((half[index] - means).mean()) < 0.05


def test_subsampled_chroma_is_repeated():
    flat = np.repeat(np.repeat(noise(300, 8), 2, axis=0), 2, axis=1)
    assert abs(there_and_back(flat, Conversion(), "4:2:0").astype(int) - flat).max() <= 2


def test_padding_repeats_the_edge():
    rgb = noise(3, 5)
    padded = pad(rgb, 8, 4)
    assert (padded[:3, :5] == rgb).all()
    assert (padded[3, :5] == rgb[2]).all()
    assert (padded[:3, 5:] == rgb[:, 4:5]).all()


def test_a_file_of_another_size_is_refused():
    with pytest.raises(ValueError, match="11 bytes instead of 12"):
        to_rgb(bytes(11), Frame(2, 2, "4:4:4", 8), Conversion())


@given(st.lists(st.integers(0, 1023), min_size=1, max_size=50))
def test_to_fewer_bits_rounds(codes):
    frame = Frame(len(codes), 1, "4:4:4", 10)
    raw = np.array(codes, "<u2").tobytes()
    expected = [min(255, int(code / 4 + 0.5)) for code in codes]
    assert list(to_depth(raw, frame, 8)) == expected


@given(st.binary(min_size=1, max_size=50))
def test_to_more_bits_and_back_is_nothing(raw):
    frame = Frame(len(raw), 1, "4:4:4", 8)
    deep = to_depth(raw, frame, 10)
    assert np.frombuffer(deep, "<u2").tolist() == [4 * code for code in raw]
    assert to_depth(deep, Frame(len(raw), 1, "4:4:4", 10), 8) == raw
