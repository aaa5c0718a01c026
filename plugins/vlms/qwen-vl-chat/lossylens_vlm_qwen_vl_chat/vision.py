"""The vision encoder: an OpenCLIP ViT-bigG trunk, and a resampler to 256 tokens.

Bai et al., Qwen-VL, arXiv:2308.12966, section 2.1.  Parameters are named as in the
official checkpoint, below ``transformer.visual``.
"""

from __future__ import annotations

from collections import OrderedDict
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from lossylens_vlm_qwen_vl_chat.configuration import VisionConfig

_EPS = 1e-6


def resized_positions(positions: Tensor, side: int) -> Tensor:
    """Return positions ``(n * n, width)`` of a square grid for one of ``side * side``."""
    count, width = positions.shape
    old = isqrt(count)
    if old == side:
        return positions
    grid = positions.float().reshape(1, old, old, width).permute(0, 3, 1, 2)
    grid = interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).reshape(side * side, width).to(positions.dtype)


class Attention(nn.Module):
    """Self-attention whose joint projection holds query, key and value head by head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def query_key_value(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return them as ``(B, heads, N, head width)``, for *hidden* ``(B, N, width)``."""
        apart = self.in_proj(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        query, key, value = apart.chunk(3, dim=-1)
        return query, key, value

    def forward(self, hidden: Tensor) -> Tensor:
        """Return attention's output ``(B, N, width)``."""
        mixed = scaled_dot_product_attention(*self.query_key_value(hidden))
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=_EPS)
        layers: dict[str, nn.Module] = {
            "c_fc": nn.Linear(width, inner),
            "gelu": nn.GELU(),
            "c_proj": nn.Linear(inner, width),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the layer's output ``(B, N, width)``."""
        hidden = hidden + self.attn(self.ln_1(hidden))
        return hidden + self.mlp(self.ln_2(hidden))


class Resampler(nn.Module):
    """Cross-attention of learned queries to the patches; both have 2-D positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.output_dim
        self.query = nn.Parameter(torch.zeros(config.queries, width))
        self.pos_embed = nn.Parameter(torch.zeros(config.queries, width))
        self.kv_proj = nn.Linear(config.width, width, bias=False)
        heads = width // config.pool_head_width
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_q = nn.LayerNorm(width, eps=_EPS)
        self.ln_kv = nn.LayerNorm(width, eps=_EPS)

    def forward(self, patches: Tensor) -> Tensor:
        """Return ``(B, queries, output_dim)`` for patches ``(B, n * n, width)``."""
        value = self.ln_kv(self.kv_proj(patches))
        key = value + resized_positions(self.pos_embed, isqrt(patches.shape[1]))
        query = self.ln_q(self.query) + self.pos_embed
        query = query.expand(len(patches), -1, -1)
        return self.attn(query, key, value, need_weights=False)[0]


class Transformer(nn.Module):
    """The layers, under the name that they have in the checkpoint."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        inner = int(config.width * config.mlp_ratio)
        self.resblocks = nn.ModuleList(
            Block(config.width, config.heads, inner) for _ in range(config.layers)
        )


class VisionEncoder(nn.Module):
    """Images to the features that enter the language model."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.conv1 = nn.Conv2d(3, config.width, patch, stride=patch, bias=False)
        self.positional_embedding = nn.Parameter(torch.zeros(config.positions, config.width))
        self.ln_pre = nn.LayerNorm(config.width, eps=_EPS)
        self.transformer = Transformer(config)
        self.attn_pool = Resampler(config)
        self.ln_post = nn.LayerNorm(config.output_dim, eps=_EPS)
        self.proj = nn.Parameter(torch.zeros(config.output_dim, config.output_dim))

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the input of the first layer, patches with positions ``(B, n * n, width)``."""
        grid = self.conv1(pixels)
        positions = resized_positions(self.positional_embedding, grid.shape[-1])
        return self.ln_pre(grid.flatten(2).transpose(1, 2) + positions)

    def pool(self, hidden: Tensor) -> Tensor:
        """Return ``(B, queries, output_dim)`` for the last layer's output."""
        return self.ln_post(self.attn_pool(hidden)) @ self.proj

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ``(B, queries, output_dim)`` for pixels ``(B, 3, side, side)``."""
        hidden = self.embed(pixels)
        for block in self.transformer.resblocks:
            hidden = block(hidden)
        return self.pool(hidden)
