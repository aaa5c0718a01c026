"""Between 8-bit RGB pictures and raw planar YCbCr files, always rounding.

Codes are ``floor(scale * v + offset + 0.5)``, never truncated.  Truncation costs
half a code on average in each direction, the same at every rate, and is why
published HM and VTM figures often cannot be repeated.

Matrices follow ITU-R BT.709 and BT.601.  In full range all of Y, Cb + 0.5 and
Cr + 0.5 are scaled by the largest code, as the field does when it codes stills for
comparison with learned codecs; neutral chroma thus lies between two codes, and greys
come back within one code.  Limited range follows ITU-T H.273.  With ``"rgb"`` there is no
matrix: the planes are G, B, R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float64]

#: Weights of red, green and blue in luma.
MATRICES = {"bt709": (0.2126, 0.7152, 0.0722), "bt601": (0.299, 0.587, 0.114)}

#: Samples of luma per sample of chroma, along each side.
CHROMA_STEP = {"4:4:4": 1, "4:2:0": 2}

#: Rows that are converted at once, to bound the memory; even.
_BAND = 64


@dataclass(frozen=True, slots=True)
class Conversion:
    """How RGB becomes codes.

    Attributes:
        matrix: a key of :data:`MATRICES`, or ``"rgb"`` for none.
        full_range: all codes are used, rather than 16..235 (chroma 16..240).
        depth: bits per sample of the codes, 8 or 10.
    """

    matrix: str = "bt709"
    full_range: bool = True
    depth: int = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """The shape of a raw planar file with one frame.

    Attributes:
        width, height: in luma samples; even for ``"4:2:0"``.
        subsampling: ``"4:4:4"`` or ``"4:2:0"``.
        depth: bits per sample; above 8 a sample takes two bytes, low byte first.
    """

    width: int
    height: int
    subsampling: str
    depth: int

    @property
    def planes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each plane."""
        step = CHROMA_STEP[self.subsampling]
        chroma = (self.height // step, self.width // step)
        return ((self.height, self.width), chroma, chroma)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        samples = sum(height * width for height, width in self.planes)
        return samples * (1 if self.depth == 8 else 2)


def pad(rgb: Rgb, width: int, height: int) -> Rgb:
    """Return *rgb* grown to the right and below by repeating its edge."""
    rows, columns = height - rgb.shape[0], width - rgb.shape[1]
    return np.pad(rgb, ((0, rows), (0, columns), (0, 0)), mode="edge")


def to_raw(rgb: Rgb, frame: Frame, conversion: Conversion) -> bytes:
    """Return the content of the raw file of *rgb*, whose size is that of *frame*.

    Chroma of 4:2:0 is the mean of 2x2 samples, taken before quantisation.
    """
    planes = [np.empty(shape, _dtype(frame)) for shape in frame.planes]
    step = CHROMA_STEP[frame.subsampling]
    for top in range(0, frame.height, _BAND):
        band = _to_planes(rgb[top : top + _BAND], conversion)
        for index, plane in enumerate(band):
            scale, offset = _scale(index, conversion)
            # In this order, because where a value ties between two codes, it decides.
            shifted = plane + offset / scale
            if index and step == 2:
                shifted = _halved(shifted)
            shifted *= scale
            first = top // step if index else top
            _round(shifted, 2**conversion.depth - 1, planes[index][first : first + len(shifted)])
    return b"".join(plane.tobytes() for plane in planes)


def to_rgb(raw: bytes, frame: Frame, conversion: Conversion) -> Rgb:
    """Return the picture in a raw file; chroma of 4:2:0 is repeated.

    Raises:
        ValueError: *raw* has not the size of *frame*.
    """
    if len(raw) != frame.size:
        raise ValueError(f"{len(raw)} bytes instead of {frame.size}")
    samples = np.frombuffer(raw, _dtype(frame))
    planes, start = [], 0
    for height, width in frame.planes:
        planes.append(samples[start : start + height * width].reshape(height, width))
        start += height * width
    rgb = np.empty((frame.height, frame.width, 3), np.uint8)
    for top in range(0, frame.height, _BAND):
        values = _from_planes(_band(planes, top, frame, conversion), conversion)
        for channel, value in enumerate(values):
            value *= 255
            _round(value, 255, rgb[top : top + _BAND, :, channel])
    return rgb


def _band(
    planes: Sequence[NDArray[np.generic]], top: int, frame: Frame, conversion: Conversion
) -> list[Floats]:
    """Return the values of some rows, all planes in the size of luma."""
    step = CHROMA_STEP[frame.subsampling]
    values = []
    for index, plane in enumerate(planes):
        scale, offset = _scale(index, conversion)
        ratio = step if index else 1
        rows = plane[top // ratio : (top + _BAND) // ratio].astype(np.float64)
        rows = (rows - offset) / scale
        values.append(rows.repeat(ratio, axis=0).repeat(ratio, axis=1) if ratio > 1 else rows)
    return values


def to_depth(raw: bytes, frame: Frame, depth: int) -> bytes:
    """Return a raw file with the samples of another depth: rounded, or shifted up.

    This is what HM and VTM do when input or output has not the depth of the coding.
    """
    samples = np.frombuffer(raw, _dtype(frame)).astype(np.int32)
    down = frame.depth - depth
    if down > 0:
        samples = np.minimum((samples + (1 << (down - 1))) >> down, 2**depth - 1)
    else:
        samples = samples << -down
    return samples.astype(_dtype(replace(frame, depth=depth))).tobytes()


def _round(values: Floats, largest: int, codes: NDArray[np.generic]) -> None:
    """Write *values* as codes up to *largest*; the values are lost."""
    values += 0.5
    np.floor(values, out=values)
    codes[...] = np.clip(values, 0, largest, out=values)


def _dtype(frame: Frame) -> str:
    return "<u2" if frame.depth > 8 else "u1"


def _scale(index: int, conversion: Conversion) -> tuple[float, float]:
    """Return factor and offset between values of plane *index* and its codes."""
    chroma = index > 0 and conversion.matrix != "rgb"
    if conversion.full_range:
        largest = 2**conversion.depth - 1
        return largest, largest * 0.5 if chroma else 0.0
    unit = 2 ** (conversion.depth - 8)
    return (224.0 * unit, 128.0 * unit) if chroma else (219.0 * unit, 16.0 * unit)


def _halved(plane: Floats) -> Floats:
    """Return the means of 2x2 samples; added in this order, since the last bit may decide."""
    pairs = plane[:, ::2] + plane[:, 1::2]
    return (pairs[::2] + pairs[1::2]) / 4


def _to_planes(rgb: Rgb, conversion: Conversion) -> list[Floats]:
    red, green, blue = values = [rgb[..., channel] / 255.0 for channel in range(3)]
    if conversion.matrix == "rgb":
        return [green, blue, red]
    weight_red, _, weight_blue = MATRICES[conversion.matrix]
    luma = _luma(rgb, values, conversion.matrix)
    blueness = 0.5 * (blue - luma) / (1 - weight_blue)
    return [luma, blueness, 0.5 * (red - luma) / (1 - weight_red)]


def _from_planes(planes: Sequence[Floats], conversion: Conversion) -> list[Floats]:
    if conversion.matrix == "rgb":
        green, blue, red = planes
        return [red, green, blue]
    weight_red, weight_green, weight_blue = MATRICES[conversion.matrix]
    luma, blueness, redness = planes
    red = luma + 2 * (1 - weight_red) * redness
    blue = luma + 2 * (1 - weight_blue) * blueness
    green = (luma - weight_red * red - weight_blue * blue) / weight_green
    return [red, green, blue]


def _luma(rgb: Rgb, values: Sequence[Floats], matrix: str) -> Floats:
    """Return luma, rounded as a chain of fused multiply-adds: green, red, blue.

    Many 8-bit colours lie exactly between two codes, so the last bit of luma decides
    them.  A matrix product leaves that bit to the machine; this is what it gives where
    fused instructions are used, on every machine.

    Args:
        rgb: 8-bit codes.
        values: red, green and blue in 0..1.
        matrix: a key of :data:`MATRICES`.
    """
    weights, lost = MATRICES[matrix], _lost(matrix)
    luma = weights[1] * values[1]
    for channel in (0, 2):
        product = weights[channel] * values[channel]
        # Knuth's two-sum: total + rest is the exact sum of the rounded product and luma.
        total = luma + product
        part = total - luma
        rest = (luma - (total - part)) + (product - part)
        rest += lost[channel][rgb[..., channel]]
        luma = total + rest
    return luma


@lru_cache
def _lost(matrix: str) -> list[Floats]:
    """Return what rounding loses of weight times value, for each channel and code."""
    tables = []
    for weight in MATRICES[matrix]:
        values = [code / 255.0 for code in range(256)]
        exact = [Fraction(weight) * Fraction(value) for value in values]
        rounded = [weight * value for value in values]
        tables.append(
            np.array([float(a - Fraction(b)) for a, b in zip(exact, rounded, strict=True)])
        )
    return tables
