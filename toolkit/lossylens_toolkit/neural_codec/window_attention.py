"""Attention within windows, as in the transforms of several learned codecs.

Liu et al., "Swin Transformer", ICCV 2021, arXiv:2103.14030.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias for each relative position.

    Names of parameters are those of TCM and of what was made from it.

    Args:
        channels: of input and output.
        head_width: channels of each head.
        window: positions along each side of a window.
        shifted: whether the windows are moved by half a window, cyclically.
    """

    def __init__(self, channels: int, head_width: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.window = window
        self.shifted = shifted
        self.embedding_layer = nn.Linear(channels, 3 * channels)
        self.linear = nn.Linear(channels, channels)
        self.relative_position_params = nn.Parameter(
            torch.empty(channels // head_width, 2 * window - 1, 2 * window - 1)
        )
        nn.init.trunc_normal_(self.relative_position_params, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended *x*, ``(B, H, W, C)``; the sides are multiples of the window."""
        return attend_in_windows(
            x,
            self.embedding_layer,
            self.linear,
            position_bias(self.relative_position_params),
            self.window,
            self.shifted,
        )


def attend_in_windows(
    x: Tensor,
    qkv: nn.Module,
    projection: nn.Module,
    bias: Tensor,
    window: int,
    shifted: bool,
    hidden: float = -torch.inf,
) -> Tensor:
    """Return the attended *x*.

    Args:
        x: ``(B, H, W, C)``; the sides are multiples of *window*.
        qkv: makes queries, keys and values of the positions' vectors, in thirds, in each the
            heads one after the other.
        projection: of the heads' outputs side by side.
        bias: between positions, ``(heads, window², window²)``; see :func:`position_bias`.
        window: positions along each side of a window.
        shifted: whether the windows are moved by half a window, cyclically.
        hidden: added between positions that only the cyclic shift has brought together.
    """
    batch, height, width, channels = x.shape
    shift = window // 2
    if shifted:
        x = x.roll((-shift, -shift), (1, 2))
    rows, columns = height // window, width // window
    split = x.reshape(batch, rows, window, columns, window, channels).transpose(2, 3)
    tokens = split.reshape(batch * rows * columns, window**2, channels)
    query, key, value = heads_of(qkv(tokens), len(bias))
    seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
    if shifted:
        # The windows that hold both borders of the picture are done again, with
        # their mask; a mask for all windows would take more room than all else.
        edge, blocked = _edges(window, rows, columns, len(tokens), x.device)
        mask = bias + torch.zeros_like(blocked, dtype=bias.dtype).masked_fill_(blocked, hidden)
        again = functional.scaled_dot_product_attention(
            query[edge], key[edge], value[edge], attn_mask=mask
        )
        seen = seen.index_copy(0, edge, again)
    attended = projection(seen.transpose(1, 2).reshape(tokens.shape))
    split = attended.reshape(batch, rows, columns, window, window, channels).transpose(2, 3)
    x = split.reshape(batch, height, width, channels)
    return x.roll((shift, shift), (1, 2)) if shifted else x


def heads_of(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, each ``(N, heads, L, d)``, of ``(N, L, 3 * heads * d)``."""
    count, length, _ = qkv.shape
    query, key, value = qkv.reshape(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return query, key, value


def position_bias(table: Tensor) -> Tensor:
    """Return the bias between the positions of a window.

    Args:
        table: by the rows and the columns from key to query, ``(heads, 2w - 1, 2w - 1)``.

    Returns:
        ``(heads, w², w²)``, query by key.
    """
    heads, sides, _ = table.shape
    window = (sides + 1) // 2
    place = torch.arange(window, device=table.device)
    apart = place[:, None] - place + window - 1
    # Indexed by row of query, column of query, row of key, column of key.
    bias = table[:, apart[:, None, :, None], apart[None, :, None, :]]
    return bias.reshape(heads, window**2, window**2)


def _edges(
    window: int, rows: int, columns: int, count: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the windows in the last row or column, and what is hidden in each of them.

    After the cyclic shift such a window joins opposite borders of the picture;
    its halves do not see each other.
    """
    late = torch.arange(window, device=device) >= window - window // 2
    row, column = late.repeat_interleave(window), late.repeat(window)
    apart = torch.stack([row[:, None] != row, column[:, None] != column])
    index = torch.arange(count, device=device)
    last_row = index // columns % rows == rows - 1
    last_column = index % columns == columns - 1
    edge = torch.nonzero(last_row | last_column)[:, 0]
    flags = torch.stack([last_row[edge], last_column[edge]])[:, :, None, None]
    return edge, (flags & apart[:, None]).any(0)[:, None]
