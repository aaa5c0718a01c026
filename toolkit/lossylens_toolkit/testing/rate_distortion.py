"""Rates and PSNR of codecs on a picture, and of JPEG beside them."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from lossylens.codec import Codec, bits_per_pixel
from lossylens.run.picture_distances import psnr
from PIL import Image


class Point(NamedTuple):
    """Bits per pixel, PSNR in dB, and the bitstream."""

    bpp: float
    psnr: float
    bitstream: bytes


def curve(codecs: Iterable[Codec], image: Image.Image) -> list[Point]:
    """Return what each codec, such as the levels of one, makes of an RGB picture."""
    points = []
    for codec in codecs:
        bitstream = codec.encode(image)
        rate = bits_per_pixel(len(bitstream), *image.size)
        points.append(Point(rate, psnr(image, codec.decode(bitstream)), bitstream))
    return points


def jpeg_curve(image: Image.Image) -> list[Point]:
    """Return JPEGs of qualities 1 to 59 with optimised tables, ascending in rate."""
    best: dict[float, Point] = {}
    for quality in range(1, 60):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        rate = bits_per_pixel(len(file.getvalue()), *image.size)
        point = Point(rate, psnr(image, Image.open(file)), file.getvalue())
        best[rate] = max(best.get(rate, point), point)
    return [best[rate] for rate in sorted(best)]


def psnr_at(rate: float, points: Sequence[Point]) -> float:
    """Return the PSNR of a curve at a rate, between its points over the logarithm of the rate.

    Below the least rate it is that of the least rate.

    Raises:
        ValueError: the rate lies above all of them.
    """
    rates, values, _ = zip(*points, strict=True)
    if rate > rates[-1]:
        raise ValueError(f"{rate} bpp lie above {rates[-1]} bpp, where the curve ends")
    return float(np.interp(math.log(rate), np.log(rates), values))
