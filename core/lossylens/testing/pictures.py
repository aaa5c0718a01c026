"""Pictures to test codecs with."""

from __future__ import annotations

import numpy as np
from PIL import Image


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Return gradients, edges and noise, RGB; the same everywhere for one *seed*."""
    generator = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(3):
        a, b, c, d = generator.uniform(0.5, 6.0, 4)
        wave_x = 0.25 * np.sin(a * x / width * np.pi + b)
        wave_y = 0.25 * np.cos(c * y / height * np.pi + d)
        plane = 0.5 + wave_x + wave_y
        x0, x1 = sorted(generator.integers(0, width, 2))
        y0, y1 = sorted(generator.integers(0, height, 2))
        plane[y0 : y1 + 1, x0 : x1 + 1] = generator.uniform()
        planes.append(plane)
    image = np.stack(planes, -1) + generator.normal(0, 0.02, (height, width, 3))
    return Image.fromarray(np.clip(np.round(image * 255), 0, 255).astype(np.uint8))


def squared_error(image: Image.Image, other: Image.Image) -> float:
    """Return the mean squared error over all samples of two images of one size."""
    difference = np.asarray(image, np.float64) - np.asarray(other, np.float64)
    return float(np.mean(difference**2))
