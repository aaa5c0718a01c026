"""Random crops, each a function of a seed and its number.

So that a training that is resumed goes on with the crops that would have come.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.training.training_pictures import Pictures, read_picture

#: Pictures that are kept decoded.
_KEPT = 256


class Crops(Dataset[Tensor]):
    """Square crops ``(3, side, side)`` in 0..1, half of them mirrored left to right.

    They are cut from pictures padded as the codec pads them, so that it learns what
    its borders look like.

    Args:
        pictures: each as likely as any other.
        padding: of the codec.
        side: of a crop, in pixels.
        count: how many crops there are.
        seed: of all of them.
    """

    def __init__(
        self, pictures: Pictures, padding: Padding, side: int, count: int, seed: int
    ) -> None:
        self._pictures = list(pictures.items())
        self._padding, self._side, self._count, self._seed = padding, side, count, seed
        self._padded = functools.lru_cache(_KEPT)(self._read)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Tensor:
        if not 0 <= number < self._count:
            raise IndexError(number)
        random = np.random.default_rng([self._seed, number])
        picture = self._padded(int(random.integers(len(self._pictures))))
        top, left = (int(random.integers(size - self._side + 1)) for size in picture.shape[1:])
        crop = picture[:, top : top + self._side, left : left + self._side]
        if random.random() < 0.5:
            crop = crop.flip(2)
        return crop.float() / 255

    def _read(self, index: int) -> Tensor:
        picture = self._padding.pad(picture_tensor(*self._pictures[index])[None])[0]
        height, width = (max(0, self._side - size) for size in picture.shape[1:])
        return functional.pad(picture, (0, width, 0, height))


def picture_tensor(name: str, read: functools.partial[bytes] | object) -> Tensor:
    """Return a picture as ``(3, H, W)``, uint8."""
    pixels = np.array(read_picture(name, read))  # type: ignore[arg-type]
    return torch.from_numpy(pixels).permute(2, 0, 1)
