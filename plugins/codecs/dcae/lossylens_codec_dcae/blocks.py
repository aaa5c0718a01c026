"""The blocks of DCAE's transforms.

Lu et al., "Learned Image Compression with Dictionary-based Entropy Model", CVPR 2025,
arXiv:2504.00496.  Names of submodules are those of the public checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from lossylens_toolkit.neural_codec.compressai import ResidualBottleneckBlock, conv3x3
from lossylens_toolkit.neural_codec.window_attention import WindowAttention
from torch import Tensor, nn
from torch.nn import functional


class Scale(nn.Module):
    """A learned factor of each channel, of vectors whose last dimension holds the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return *x*, scaled."""
        return x * self.scale


class Depthwise(nn.Module):
    """A 3x3 convolution of each channel by itself, channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, H, W, C)``."""
        return self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class GatedPerceptron(nn.Module):
    """A perceptron, one half of which gates the other after it has seen its neighbours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.dwconv = Depthwise(2 * channels)
        self.fc2 = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, H, W, C)``."""
        gate, value = self.fc1(x).chunk(2, -1)
        return self.fc2(functional.gelu(self.dwconv(gate)) * value)


class GateBlock(nn.Module):
    """Window attention and a gated perceptron, each beside a scaled identity."""

    def __init__(self, channels: int, head_width: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(channels)
        self.msa = WindowAttention(channels, head_width, window, shifted)
        self.ln2 = nn.LayerNorm(channels)
        self.mlp = GatedPerceptron(channels)
        self.res_scale_1 = Scale(channels)
        self.res_scale_2 = Scale(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, H, W, C)``."""
        x = self.res_scale_1(x) + self.msa(self.ln1(x))
        return self.res_scale_2(x) + self.mlp(self.ln2(x))


class Stage(nn.Module):
    """Blocks whose windows lie in place and shifted in turn, and a convolution, beside an identity.

    Args:
        channels: of input and output.
        head_width: channels of each head.
        window: positions along each side of a window.
        blocks: their number.
    """

    def __init__(self, channels: int, head_width: int, window: int, blocks: int) -> None:
        super().__init__()
        if channels % head_width:
            raise ValueError(f"{channels} channels cannot be divided into heads of {head_width}")
        self.layers = nn.Sequential(
            *(GateBlock(channels, head_width, window, i % 2 == 1) for i in range(blocks))
        )
        self.conv = conv3x3(channels, channels)

    def begin_as_identity(self) -> None:
        """Let the stage add nothing, until it is trained."""
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, C, H, W)``; the sides are multiples of the window."""
        return x + self.conv(self.layers(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def halving(inputs: int, outputs: int, size: int = 5) -> nn.Conv2d:
    """Return a convolution that halves the sides."""
    return nn.Conv2d(inputs, outputs, size, stride=2, padding=size // 2)


def doubling(inputs: int, outputs: int, size: int = 5) -> nn.ConvTranspose2d:
    """Return a transposed convolution that doubles the sides."""
    return nn.ConvTranspose2d(inputs, outputs, size, stride=2, padding=size // 2, output_padding=1)


def down(inputs: int, outputs: int) -> nn.Sequential:
    """Return what halves the sides, with its residual blocks."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=halving(inputs, outputs))
    for i in (1, 2, 3):
        layers[f"res{i}"] = ResidualBottleneckBlock(outputs, outputs)
    return nn.Sequential(layers)


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Return what doubles the sides, with its residual blocks."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in (1, 2, 3):
        layers[f"res{i}"] = ResidualBottleneckBlock(inputs, inputs)
    return nn.Sequential(OrderedDict(layers, conv=doubling(inputs, outputs)))
