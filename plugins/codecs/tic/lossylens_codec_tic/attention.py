"""What TIC makes of attention: its residual blocks and its causal context.

Lu et al., "Transformer-based Image Compression", DCC 2022, arXiv:2111.06707; blocks as in
Liang et al., "SwinIR", ICCVW 2021, arXiv:2108.10257.  Names of submodules are those of the
public checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from lossylens_toolkit.neural_codec.window_attention import (
    attend_in_windows,
    heads_of,
    position_bias,
)
from torch import Tensor, nn
from torch.nn import functional

#: What hides a position in a window; not infinite, in the public code.
_HIDDEN = -100.0


class SwinAttention(nn.Module):
    """Attention within windows, under the names of Swin's authors.

    Args:
        channels: of input and output.
        heads: their number.
        window: positions along each side of a window.
        shifted: whether the windows are moved by half a window, cyclically.
    """

    def __init__(self, channels: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.window = window
        self.shifted = shifted
        self.relative_position_bias_table = _bias_table(window, heads)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended *x*, ``(B, H, W, C)``; the sides are multiples of the window."""
        bias = _bias(self.relative_position_bias_table)
        return attend_in_windows(
            x, self.qkv, self.proj, bias, self.window, self.shifted, hidden=_HIDDEN
        )


class SwinBlock(nn.Module):
    """Window attention and a perceptron, each behind a norm and beside an identity."""

    def __init__(self, channels: int, heads: int, window: int, shifted: bool, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = SwinAttention(channels, heads, window, shifted)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _perceptron(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, H, W, C)``."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ResidualSwinBlocks(nn.Module):
    """Blocks whose windows lie in place and shifted in turn, beside one identity more.

    Args:
        channels: of input and output.
        depth: number of blocks.
        heads: of each.
        window: positions along each side of a window.
        hidden: channels inside the perceptrons.
        shifts: whether every other block is shifted.
    """

    #: What an untrained one multiplies by: each block has an identity of its own.
    identity_gain = 2.0

    def __init__(
        self, channels: int, depth: int, heads: int, window: int, hidden: int, shifts: bool
    ) -> None:
        super().__init__()
        blocks = [
            SwinBlock(channels, heads, window, shifts and i % 2 == 1, hidden) for i in range(depth)
        ]
        self.residual_group = nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))

    def begin_as_identity(self) -> None:
        """Let the blocks add nothing, until they are trained."""
        for block in self.residual_group.blocks:  # type: ignore[union-attr]
            for layer in (block.attn.proj, block.mlp.fc2):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, C, H, W)``."""
        return x + self.residual_group(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CausalContext(nn.Module):
    """Attention among the 5x5 positions around one, of which those before it are known.

    The others count as zeros, which attend and are attended to all the same.

    Args:
        channels: of y.
        outputs: of the context.
    """

    #: Positions along each side, and how many of them come before the middle one.
    side, known = 5, 12

    def __init__(self, channels: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.relative_position_bias_table = _bias_table(self.side, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _perceptron(channels, 4 * channels)
        self.proj = nn.Linear(channels, outputs)

    def forward(self, before: Tensor) -> Tensor:
        """Return the context of positions, ``(N, outputs)``.

        Args:
            before: the positions before each, row by row, ``(N, 12, C)``; zeros where they
                lie outside the picture.
        """
        zeros = before.new_zeros(1, self.side**2 - self.known, before.shape[2])
        # What is not known is the same everywhere.
        unknown = self.qkv(self.norm1(zeros)).expand(len(before), -1, -1)
        bias = _bias(self.relative_position_bias_table)
        qkv = torch.cat([self.qkv(self.norm1(before)), unknown], 1)
        query, key, value = heads_of(qkv, len(bias))
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        x = seen.sum(2).flatten(1) + before.sum(1)
        return self.proj(x + self.mlp(self.norm2(x)))


def _bias_table(window: int, heads: int) -> nn.Parameter:
    table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
    nn.init.trunc_normal_(table, std=0.02)
    return table


def _bias(table: Tensor) -> Tensor:
    """Return the bias between positions; its table has rows and columns in one dimension."""
    side = round(len(table) ** 0.5)
    return position_bias(table.T.reshape(-1, side, side))


def _perceptron(channels: int, hidden: int) -> nn.Sequential:
    layers = {"fc1": nn.Linear(channels, hidden), "act": nn.GELU()}
    return nn.Sequential(OrderedDict(layers, fc2=nn.Linear(hidden, channels)))
