"""Window attention and the blocks that TCM makes of it.

Liu et al., "Learned Image Compression with Mixed Transformer-CNN Architectures",
CVPR 2023, arXiv:2303.14978; windows as in Liu et al., "Swin Transformer", ICCV 2021,
arXiv:2103.14030.  Names of submodules are those of the public checkpoints.
"""

from __future__ import annotations

import torch
from lossylens_toolkit.neural_codec.compressai import AttentionBlock, ResidualBlock, conv1x1
from torch import Tensor, nn
from torch.nn import functional


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias for each relative position.

    Args:
        channels: of input and output.
        head_width: channels of each head.
        window: positions along each side of a window.
        shifted: whether the windows are moved by half a window, cyclically.
    """

    def __init__(self, channels: int, head_width: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.window = window
        self.shifted = shifted
        self.embedding_layer = nn.Linear(channels, 3 * channels)
        self.linear = nn.Linear(channels, channels)
        self.relative_position_params = nn.Parameter(
            torch.empty(self.heads, 2 * window - 1, 2 * window - 1)
        )
        nn.init.trunc_normal_(self.relative_position_params, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended *x*, ``(B, H, W, C)``; the sides are multiples of the window."""
        batch, height, width, channels = x.shape
        window, shift = self.window, self.window // 2
        if self.shifted:
            x = x.roll((-shift, -shift), (1, 2))
        rows, columns = height // window, width // window
        split = x.reshape(batch, rows, window, columns, window, channels).transpose(2, 3)
        tokens = split.reshape(batch * rows * columns, window**2, channels)
        attended = self.linear(self._attend(tokens, rows, columns))
        split = attended.reshape(batch, rows, columns, window, window, channels).transpose(2, 3)
        x = split.reshape(batch, height, width, channels)
        return x.roll((shift, shift), (1, 2)) if self.shifted else x

    def _attend(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Return what each position of each window sees, before the last linear layer."""
        count, size, channels = tokens.shape
        qkv = self.embedding_layer(tokens).reshape(count, size, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        bias = self._bias()
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        if self.shifted:
            # The windows that hold both borders of the picture are done again, with
            # their mask; a mask for all windows would take more room than all else.
            edge, blocked = self._edges(rows, columns, count, tokens.device)
            mask = bias + torch.zeros_like(blocked, dtype=bias.dtype).masked_fill_(
                blocked, -torch.inf
            )
            again = functional.scaled_dot_product_attention(
                query[edge], key[edge], value[edge], attn_mask=mask
            )
            seen = seen.index_copy(0, edge, again)
        return seen.transpose(1, 2).reshape(count, size, channels)

    def _bias(self) -> Tensor:
        """Return the bias between positions, ``(heads, window², window²)``."""
        place = torch.arange(self.window, device=self.relative_position_params.device)
        apart = place[:, None] - place + self.window - 1
        size = self.window**2
        # Indexed by row of query, column of query, row of key, column of key.
        bias = self.relative_position_params[:, apart[:, None, :, None], apart[None, :, None, :]]
        return bias.reshape(self.heads, size, size)

    def _edges(
        self, rows: int, columns: int, count: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return the windows in the last row or column, and what is hidden in each of them.

        After the cyclic shift such a window joins opposite borders of the picture;
        its halves do not see each other.
        """
        late = torch.arange(self.window, device=device) >= self.window // 2
        row, column = late.repeat_interleave(self.window), late.repeat(self.window)
        apart = torch.stack([row[:, None] != row, column[:, None] != column])
        index = torch.arange(count, device=device)
        last_row = index // columns % rows == rows - 1
        last_column = index % columns == columns - 1
        edge = torch.nonzero(last_row | last_column)[:, 0]
        flags = torch.stack([last_row[edge], last_column[edge]])[:, :, None, None]
        return edge, (flags & apart[:, None]).any(0)[:, None]


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
