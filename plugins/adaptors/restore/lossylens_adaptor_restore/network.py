"""A small residual network that takes a decoded picture and returns it nearer to the original.

It works on squares of 2x2 pixels, as FFDNet does (arXiv:1710.04026), which costs a quarter of
the time and doubles what each pixel depends on; dilations widen that to a few blocks of JPEG.
It knows neither codec nor level: what to repair, it sees (as FBCNN, arXiv:2109.14573).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens.errors import ConfigError
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from PIL import Image as PillowImage
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, relu

#: Side of the squares that become channels.
_SQUARE = 2

#: Side of the tiles in which a picture is restored, which bounds memory; even.
_TILE = 512

#: Bounds of what a checkpoint's header may ask for.
_MOST_CHANNELS, _MOST_BLOCKS, _MOST_DILATION = 1024, 256, 64


class RestorationNetwork(nn.Module):
    """Residual blocks of two convolutions, at half of the resolution.

    It begins as the identity.

    Args:
        width: channels.
        dilations: of the first convolution of each block.
    """

    def __init__(self, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.width, self.dilations = width, tuple(dilations)
        channels = 3 * _SQUARE**2
        self.head = _convolution(channels, width)
        self.blocks = nn.ModuleList(_Block(width, each) for each in self.dilations)
        self.tail = _convolution(width, channels)
        nn.init.zeros_(self.tail.weight)

    @property
    def radius(self) -> int:
        """How many pixels away, at most, lies what a restored pixel depends on."""
        return _SQUARE * (2 + sum(dilation + 1 for dilation in self.dilations)) + _SQUARE - 1

    def forward(self, x: Tensor) -> Tensor:
        """Return pictures like *x*: ``(B, 3, H, W)``, about 0..1, even in height and width."""
        hidden = self.head(pixel_unshuffle(x, _SQUARE))
        for block in self.blocks:
            hidden = block(hidden)
        return x + pixel_shuffle(self.tail(hidden), _SQUARE)

    def described(self) -> dict[str, Any]:
        """Return the arguments of the constructor, as JSON can hold them."""
        return {"width": self.width, "dilations": list(self.dilations)}


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, dilation)
        self.second = _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(relu(self.first(x)))


def _convolution(channels: int, width: int, dilation: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def read_network(path: Path) -> RestorationNetwork:
    """Return the network of a checkpoint, in float32.

    Raises:
        ConfigError: it cannot be read, or is of another network.
    """
    checkpoint = read_checkpoint(path)
    network = RestorationNetwork(*_arguments(checkpoint.about.get("network"), path))
    own = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in checkpoint.state.items()}
    if shapes != {name: tuple(value.shape) for name, value in own.items()}:
        raise ConfigError(f"{path}: its weights are of another network than its header says")
    network.load_state_dict(dict(checkpoint.state))
    return network.eval().requires_grad_(False)


def _arguments(about: Any, path: Path) -> tuple[int, list[int]]:
    given: Mapping[str, Any] = about if isinstance(about, Mapping) else {}
    width, dilations = given.get("width"), given.get("dilations")
    if not (
        _is_between(width, _MOST_CHANNELS)
        and isinstance(dilations, list)
        and len(dilations) <= _MOST_BLOCKS
        and all(_is_between(each, _MOST_DILATION) for each in dilations)
    ):
        raise ConfigError(f"{path}: its header describes no network of this method")
    return width, dilations  # type: ignore[return-value]


def _is_between(value: Any, most: int) -> bool:
    return isinstance(value, int) and 1 <= value <= most


@torch.inference_mode()
def restored(network: RestorationNetwork, image: Image) -> Image:
    """Return an RGB picture of any size, restored on the network's device.

    Tiles overlap by all that their pixels depend on, so none has a border of its own.
    """
    weight = network.head.weight
    width, height = image.size
    odd = ((0, height % _SQUARE), (0, width % _SQUARE), (0, 0))
    pixels = np.pad(np.asarray(image), odd, mode="edge")
    out = np.empty_like(pixels)
    for rows, around_rows in _tiles(pixels.shape[0], network.radius):
        for columns, around_columns in _tiles(pixels.shape[1], network.radius):
            tile = torch.from_numpy(pixels[around_rows, around_columns]).to(weight.device)
            found = network(tile.permute(2, 0, 1)[None].to(weight.dtype) / 255)[0]
            inner = found[:, _within(rows, around_rows), _within(columns, around_columns)]
            samples = (255 * inner).round().clamp(0, 255).to(torch.uint8)
            out[rows, columns] = samples.permute(1, 2, 0).cpu().numpy()
    return PillowImage.fromarray(out[:height, :width])


def _tiles(length: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles of a side, and each with what it depends on."""
    margin = radius + radius % _SQUARE
    for start in range(0, length, _TILE):
        stop = min(start + _TILE, length)
        yield slice(start, stop), slice(max(0, start - margin), min(length, stop + margin))


def _within(inner: slice, outer: slice) -> slice:
    return slice(inner.start - outer.start, inner.stop - outer.start)
