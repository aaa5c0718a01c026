"""The blocks that TCM makes of window attention.

Liu et al., "Learned Image Compression with Mixed Transformer-CNN Architectures",
CVPR 2023, arXiv:2303.14978.  Names of submodules are those of the public checkpoints.
"""

from __future__ import annotations

import torch
from lossylens_toolkit.neural_codec.compressai import AttentionBlock, ResidualBlock, conv1x1
from lossylens_toolkit.neural_codec.window_attention import WindowAttention
from torch import Tensor, nn


class TransformerBlock(nn.Module):
    """Window attention and a perceptron, each behind a norm and beside an identity."""

    def __init__(
        self, channels: int, head_width: int, window: int, shifted: bool, hidden: int
    ) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(channels)
        self.msa = WindowAttention(channels, head_width, window, shifted)
        self.ln2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, H, W, C)``."""
        x = x + self.msa(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class MixedBlock(nn.Module):
    """The parallel transformer-CNN mixture block, of twice *channels* channels."""

    def __init__(self, channels: int, head_width: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.channels = channels
        self.trans_block = TransformerBlock(channels, head_width, window, shifted, 4 * channels)
        self.conv1_1 = conv1x1(2 * channels, 2 * channels)
        self.conv1_2 = conv1x1(2 * channels, 2 * channels)
        self.conv_block = ResidualBlock(channels, channels)

    def begin_as_identity(self) -> None:
        """Let the block add nothing, until it is trained."""
        nn.init.zeros_(self.conv1_2.weight)
        nn.init.zeros_(self.conv1_2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, 2C, H, W)``."""
        local, broad = self.conv1_1(x).split(self.channels, 1)
        # The block has an identity of its own: the public network adds it twice.
        local = self.conv_block(local) + local
        broad = self.trans_block(broad.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.conv1_2(torch.cat([local, broad], 1))


class _TwoBlocks(nn.Module):
    def __init__(self, channels: int, head_width: int, window: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.block_1 = TransformerBlock(channels, head_width, window, False, hidden)
        self.block_2 = TransformerBlock(channels, head_width, window, True, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.block_1(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class SwinAttention(AttentionBlock):  # type: ignore[misc]
    """The attention of the entropy model (SWAtten): a mask computed by two window blocks.

    Args:
        channels: of input and output.
        width: channels inside.
        head_width: channels of each head.
        window: positions along each side of a window.
    """

    def __init__(self, channels: int, width: int, head_width: int, window: int) -> None:
        super().__init__(width)
        self.in_conv = conv1x1(channels, width)
        self.out_conv = conv1x1(width, channels)
        self.non_local_block = _TwoBlocks(width, head_width, window)

    def forward(self, x: Tensor) -> Tensor:
        """Return what becomes of *x*, ``(B, C, H, W)``."""
        x = self.in_conv(x)
        mask = torch.sigmoid(self.conv_b(self.non_local_block(x)))
        return self.out_conv(x + self.conv_a(x) * mask)
