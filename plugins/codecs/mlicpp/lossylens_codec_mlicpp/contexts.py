"""The context modules of MLIC++.

Jiang et al., "MLIC++: Linear Complexity Multi-Reference Entropy Modeling for Learned
Image Compression", arXiv:2307.15421.  Names of submodules are those of the public
checkpoints.  Where the public code computes a context at all positions and uses half
of them, only that half is computed here.

Anchors are the positions whose row and column have an odd sum; half-width tensors are
those of :mod:`lossylens_toolkit.neural_codec.checkerboard`.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

import torch
from lossylens_toolkit.neural_codec import checkerboard
from lossylens_toolkit.neural_codec.compressai import conv1x1, conv3x3
from torch import Tensor, nn
from torch.nn import functional

_HEADS = 2
#: What hides a place in a window; not infinite, so that a row of it alone sees everything.
_HIDDEN = -100.0


class LocalContext(nn.Module):
    """Attention within the window around each non-anchor, of the anchors in it.

    Args:
        channels: of a slice.
        window: positions along each side of the window.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(channels)
        self.qkv_proj = nn.Linear(channels, 3 * channels)
        self.relative_position_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, _HEADS))
        nn.init.trunc_normal_(self.relative_position_table, std=0.02)
        self.register_buffer("relative_position_index", _relative_positions(window))
        self.fusion = nn.Conv2d(channels, 2 * channels, window)
        self.proj = nn.Linear(2 * channels, 2 * channels)
        self.norm2 = nn.LayerNorm(2 * channels)
        layers = {"fc1": nn.Linear(2 * channels, 4 * channels), "gelu": nn.GELU()}
        layers["fc2"] = nn.Linear(4 * channels, 2 * channels)
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, anchors: Tensor) -> Tensor:
        """Return the context of the non-anchors, ``(B, 2C, H, W/2)``.

        Args:
            anchors: ``(B, C, H, W)``, zero elsewhere.
        """
        batch, channels, height, width = anchors.shape
        projected = self.qkv_proj(self.norm1(anchors.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        windows = self._windows(projected).reshape(-1, 3, channels // _HEADS, _HEADS, self._size)
        # In the input the head is the fast index of the channels.
        query, key, value = windows.permute(1, 0, 3, 4, 2)
        mask = (self._bias() + self._hidden(height, width, anchors)).repeat(batch, 1, 1, 1)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        # In the output it is the slow one.
        seen = seen.transpose(2, 3).reshape(len(seen), -1)
        x = self.proj(functional.linear(seen, self.fusion.weight.flatten(1), self.fusion.bias))
        x = x + self.mlp(self.norm2(x))
        return x.reshape(batch, height, width // 2, -1).permute(0, 3, 1, 2)

    @property
    def _size(self) -> int:
        return self.window**2

    def _windows(self, values: Tensor) -> Tensor:
        """Return the windows around the non-anchors, ``(B * H * W/2, C, window, window)``."""
        reach = self.window // 2
        height, width = values.shape[-2:]
        padded = functional.pad(values, (reach, reach, reach, reach))
        views = padded.unfold(2, self.window, 1).unfold(3, self.window, 1)
        row = torch.arange(height, device=values.device)[:, None]
        column = 2 * torch.arange(width // 2, device=values.device) + row % 2
        return views.permute(0, 2, 3, 1, 4, 5)[:, row, column].flatten(0, 2)

    def _bias(self) -> Tensor:
        index = self.relative_position_index.flatten()
        return self.relative_position_table[index].T.reshape(_HEADS, self._size, self._size)

    def _hidden(self, height: int, width: int, like: Tensor) -> Tensor:
        """Return what hides keys from queries, ``(H * W/2, 1, window², window²)``.

        An anchor in the picture sees such anchors; all else sees everything.
        """
        half = like.new_ones(1, 1, height, width // 2)
        anchors = self._windows(checkerboard.merge(torch.zeros_like(half), half)).flatten(1)
        return ((1 - anchors[:, :, None] * anchors[:, None]) * _HIDDEN)[:, None]


def _relative_positions(window: int) -> Tensor:
    """Return the index into the table of biases, query by key."""
    place = torch.arange(window)
    row, column = place.repeat_interleave(window), place.repeat(window)
    rows, columns = row[:, None] - row + window - 1, column[:, None] - column + window - 1
    return rows * (2 * window - 1) + columns


def _projection(channels: int) -> nn.Sequential:
    return nn.Sequential(
        conv1x1(channels, channels), nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    )


def _perceptron(channels: int, hidden: int, out: int) -> nn.Sequential:
    depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
    return nn.Sequential(
        conv1x1(channels, hidden), nn.GELU(), depthwise, nn.GELU(), conv1x1(hidden, out)
    )


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Linear attention (Shen et al., "Efficient Attention", WACV 2021) over all positions.

    *query* may have other positions than *key* and *value*.
    """
    batch, channels = query.shape[:2]
    q, k, v = (each.reshape(batch, heads, channels // heads, -1) for each in (query, key, value))
    context = k.softmax(-1) @ v.transpose(2, 3)
    return (context.transpose(2, 3) @ q.softmax(2)).reshape(query.shape)


class InterContext(nn.Module):
    """Global attention over all slices before the one to be coded.

    Args:
        slices: their number.
        channels: of a slice.
    """

    def __init__(self, slices: int, channels: int) -> None:
        super().__init__()
        self.heads = slices
        width = slices * channels
        self.keys, self.queries, self.values = (_projection(width) for _ in range(3))
        self.reprojection = nn.Conv2d(width, 3 * channels, 5, padding=2)
        self.mlp = _perceptron(3 * channels, 4 * channels, 2 * channels)
        self.skip = conv1x1(3 * channels, 2 * channels)

    def forward(self, done: Tensor) -> Tensor:
        """Return the context, ``(B, 2C, H, W)``, of the slices *done*."""
        seen = _attend(self.queries(done), self.keys(done), self.values(done), self.heads)
        seen = self.reprojection(seen)
        return self.skip(seen) + self.mlp(seen)


class IntraContext(nn.Module):
    """Global attention from non-anchors to anchors, steered by the slice before.

    Args:
        channels: of a slice.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.keys, self.queries, self.values = (_projection(channels) for _ in range(3))
        self.reprojection = nn.Conv2d(channels, 2 * channels, 5, padding=2)
        self.mlp = _perceptron(2 * channels, 4 * channels, 2 * channels)

    def forward(self, previous: Tensor, anchors: Tensor) -> Tensor:
        """Return the context, ``(B, 2C, H, W)``; only its non-anchors are meant.

        Args:
            previous: the slice before, ``(B, C, H, W)``.
            anchors: of the slice to be coded, zero elsewhere.
        """
        even, odd = checkerboard.split(previous)
        nothing = torch.zeros_like(even)
        query, _ = checkerboard.split(self.queries(checkerboard.merge(even, nothing)))
        _, key = checkerboard.split(self.keys(checkerboard.merge(nothing, odd)))
        _, value = checkerboard.split(self.values(anchors))
        seen = _attend(query, key, value, _HEADS)
        seen = self.reprojection(checkerboard.merge(seen, nothing))
        return seen + self.mlp(seen)


def channel_context(slices: int, channels: int) -> nn.Sequential:
    """Return the convolutions over *slices* slices; the name's spelling is that of the files."""
    layers = nn.Sequential(
        conv3x3(slices * channels, 6 * channels),
        nn.GELU(),
        conv3x3(6 * channels, 4 * channels),
        nn.GELU(),
        conv3x3(4 * channels, 4 * channels),
    )
    return nn.Sequential(OrderedDict(fushion=layers))


def entropy_parameters(inputs: int, channels: int) -> nn.Sequential:
    """Return the pointwise network of scales and means, in this order."""
    widths = [inputs, 10 * channels, 8 * channels, 4 * channels, 2 * channels]
    return nn.Sequential(OrderedDict(fusion=_ramp(widths, conv1x1)))


def residual_prediction(inputs: int, channels: int, quartered: bool) -> nn.Sequential:
    """Return the network of the latent residual, before the hyperbolic tangent.

    Args:
        inputs: channels of the input.
        channels: of a slice.
        quartered: four convolutions, each a quarter narrower, as in the checkpoints of 2023.
    """
    excess = inputs - channels
    if quartered:
        widths = [inputs, *(inputs - n * excess // 4 for n in (1, 2, 3)), channels]
    else:
        widths = [inputs, 7 * channels, 4 * channels, channels]
    return nn.Sequential(OrderedDict(lrp_transform=_ramp(widths, conv3x3)))


def _ramp(widths: list[int], layer: type[nn.Module] | object) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [layer(inputs, outputs), nn.GELU()]  # type: ignore[operator]
    return nn.Sequential(*layers[:-1])
