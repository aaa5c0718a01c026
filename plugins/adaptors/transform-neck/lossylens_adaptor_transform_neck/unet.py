"""The classic U-Net, which repairs decoded pictures.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI
2015, arXiv:1505.04597, with batch normalisation and padded convolutions.  With 64 channels it
has 31,037,763 parameters, as the baseline of the transform-neck's authors seems to have.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Sides of pictures are padded to multiples of it: four halvings.
MULTIPLE = 16

_MOST_CHANNELS = 512


class Unet(nn.Module):
    """A picture in, a picture out; it begins as the identity.

    Args:
        channels: of the first level; each level below has twice as many.

    Raises:
        ValueError: *channels* are out of range.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        if not isinstance(channels, int) or not 1 <= channels <= _MOST_CHANNELS:
            raise ValueError(f"channels must be 1 to {_MOST_CHANNELS}, got {channels!r}")
        widths = [channels << level for level in range(5)]
        pairs = list(itertools.pairwise(widths))
        self.channels = channels
        self.first = _double(3, channels)
        self.down = nn.ModuleList(_double(above, below) for above, below in pairs)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(below, above, 2, stride=2) for above, below in reversed(pairs)
        )
        self.merge = nn.ModuleList(_double(2 * above, above) for above, _ in reversed(pairs))
        self.last = nn.Conv2d(channels, 3, 1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def weights(self) -> Mapping[str, Tensor]:
        """Return what a checkpoint holds: all but how many batches a norm has seen."""
        state = self.state_dict()
        return {name: each for name, each in state.items() if "num_batches" not in name}

    def forward(self, x: Tensor) -> Tensor:
        """Return pictures ``(B, 3, H, W)`` in about 0..1, of any size."""
        height, width = x.shape[-2:]
        padded = functional.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE), "replicate")
        levels = [self.first(padded)]
        for down in self.down:
            levels.append(down(functional.max_pool2d(levels[-1], 2)))
        found = levels.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            found = merge(torch.cat([levels.pop(), up(found)], 1))
        return x + self.last(found)[..., :height, :width]


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (inputs, outputs):
        layers += [
            nn.Conv2d(given, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
