"""An adaptor that only changes the picture: as short as it should be."""

from __future__ import annotations

from lossylens.adaptor import Adaptor
from PIL import ImageFilter


class Blur(Adaptor):
    """Smooths what JPEG has left, and nothing else."""

    def fits(self, vlm, point):
        return "" if point.codec == "jpeg" else f"{point.label} has no blocks"

    def picture(self, image, condition):
        return image.filter(ImageFilter.GaussianBlur(0.7))
