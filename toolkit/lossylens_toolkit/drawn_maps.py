"""What ``lossylens analyze features`` leaves in a run folder.

A report reads it from there; this module imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Folder in the run folder, and the file in it that says what its pictures show.
FOLDER, INDEX = "features", "features.json"


@dataclass(frozen=True)
class FeatureMap:
    """A map of one image behind a codec.

    Attributes:
        image: its name in its task.
        codec, level: labels.
        adaptor: label, ``""`` for the VLM as it is.
        error: mean over the visual tokens, relative to the variance of the original's.
        bpp: rate of the image, in bits per pixel.
        file: name of the picture, a PNG file.
    """

    image: str
    codec: str
    level: str
    adaptor: str
    error: float
    bpp: float
    file: str
