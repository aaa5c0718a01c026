"""The dictionary of DCAE's entropy model.

Lu et al., "Learned Image Compression with Dictionary-based Entropy Model", CVPR 2025,
arXiv:2504.00496.  Names of submodules are those of the public checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from lossylens_toolkit.neural_codec.compressai import conv1x1
from torch import Tensor, nn
from torch.nn import functional

from lossylens_codec_dcae.blocks import GatedPerceptron, Scale

#: Convolutions of the dense block.
_DENSE = 3


class _SpatialGate(nn.Module):
    """How much each position counts, from its mean and its maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1(torch.cat([x.mean(1, True), x.amax(1, True)], 1)))


class _Dense(nn.Module):
    """Separable convolutions one after the other, and a projection of what all return."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(
            nn.Sequential(nn.GELU(), _separable(channels)) for _ in range(_DENSE)
        )
        self.proj = conv1x1((_DENSE + 1) * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.conv_layers:
            found.append(layer(found[-1]))
        return self.proj(torch.cat(found, 1))


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            in_trans=conv1x1(channels, channels),
            act1=nn.GELU(),
            dw_conv=nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            act2=nn.GELU(),
            out_trans=conv1x1(channels, channels),
        )
    )


class Aggregation(nn.Module):
    """The multi-scale features of what is known; there is no identity beside it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.s = conv1x1(channels, channels)
        self.spatial_atte = _SpatialGate()
        self.dense = _Dense(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, H, W, C)``."""
        found = self.dense(self.s(x.permute(0, 3, 1, 2)))
        return (found * self.spatial_atte(found)).permute(0, 2, 3, 1)


class DictionaryAttention(nn.Module):
    """Looks what is known about a slice up in the dictionary.

    Args:
        inputs: channels of what is known.
        outputs: channels of what is found.
        heads: their number.
        head_width: channels of each; an entry of the dictionary has those of all heads.
    """

    def __init__(self, inputs: int, outputs: int, heads: int, head_width: int) -> None:
        super().__init__()
        width = heads * head_width
        self.heads = heads
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))
        self.x_trans = nn.Linear(inputs, width)
        self.ln_scale = nn.LayerNorm(width)
        self.msa = Aggregation(width)
        self.lnx = nn.LayerNorm(width)
        self.q_trans = nn.Linear(width, width)
        self.dict_ln = nn.LayerNorm(width)
        self.k = nn.Linear(width, width)
        self.linear = nn.Linear(width, width)
        self.ln_mlp = nn.LayerNorm(width)
        self.mlp = GatedPerceptron(width)
        self.output_trans = nn.Sequential(nn.Linear(width, outputs))
        self.res_scale_1 = Scale(width)
        self.res_scale_2 = Scale(width)
        self.res_scale_3 = Scale(width)

    def forward(self, query: Tensor, entries: Tensor) -> Tensor:
        """Return what is found, ``(B, outputs, H, W)``.

        Args:
            query: what is known, ``(B, inputs, H, W)``.
            entries: of the dictionary, ``(number, width)``.
        """
        x = self.x_trans(query.permute(0, 2, 3, 1))
        x = self.msa(self.ln_scale(x)) + self.res_scale_1(x)
        x = self.linear(self._look_up(self.lnx(x), self.dict_ln(entries))) + self.res_scale_2(x)
        x = self.mlp(self.ln_mlp(x)) + self.res_scale_3(x)
        return self.output_trans(x).permute(0, 3, 1, 2)

    def _look_up(self, x: Tensor, entries: Tensor) -> Tensor:
        """Return the mean of the entries, head by head, by their likeness to *x*.

        The likeness has a learned factor instead of the usual one.
        """
        query = self._in_heads(self.q_trans(x).flatten(1, 2)) * self.scale
        key = self._in_heads(self.k(entries)[None]).expand(len(x), -1, -1, -1)
        value = self._in_heads(entries[None]).expand(len(x), -1, -1, -1)
        found = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return found.transpose(1, 2).reshape(x.shape)

    def _in_heads(self, x: Tensor) -> Tensor:
        """Return ``(B, heads, L, head_width)`` of ``(B, L, width)``."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)
