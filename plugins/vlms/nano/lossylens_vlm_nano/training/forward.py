"""A batched training forward over the modules of transformers' Qwen2.5-VL.

transformers runs the vision encoder over a packed sequence, window by window,
which a CPU spends mostly on bookkeeping.  Training pictures all have one size,
so windows are a reshape here, and the whole can be compiled.  Parameters and
results are those of the transformers modules (a test compares them).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel, Qwen2_5_VLForConditionalGeneration

from lossylens_vlm_nano.architecture import MERGE, PATCH

# Normalisation of Qwen2-VL's image processor.
_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def patchify(images: Tensor) -> Tensor:
    """Turn uint8 images (B, 3, H, W) into patches (B, N, 1176) as the image processor does.

    Patches come in 2x2 merge blocks; the temporal axis holds the picture twice.
    """
    batch, channels, height, width = images.shape
    rows, columns = height // (PATCH * MERGE), width // (PATCH * MERGE)
    pixels = (images.float() / 255 - _MEAN.view(1, 3, 1, 1)) / _STD.view(1, 3, 1, 1)
    blocks = pixels.view(batch, channels, rows, MERGE, PATCH, columns, MERGE, PATCH)
    blocks = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    blocks = blocks.expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return blocks.reshape(batch, rows * columns * MERGE**2, channels * 2 * PATCH**2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


class VisionForward(nn.Module):
    """Vision encoder over a batch of pictures of one fixed size."""

    window: Tensor
    unwindow: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, side: int) -> None:
        super().__init__()
        visual: Any = model.model.visual
        self.visual = visual
        self.grid = side // PATCH
        cells = self.grid // MERGE
        per_window = visual.window_size // (PATCH * MERGE)
        if cells % per_window:
            raise ValueError(f"training side {side} is no multiple of the attention window")
        # Order of the merged cells by window, as get_vision_window_index gives it.
        order = torch.arange(cells**2).view(
            cells // per_window, per_window, cells // per_window, per_window
        )
        window = order.permute(0, 2, 1, 3).reshape(-1)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("unwindow", torch.argsort(window), persistent=False)
        self.window_tokens = per_window**2 * MERGE**2
        rows, columns = self._positions(cells)
        positions = torch.stack((rows, columns), dim=-1)
        with torch.no_grad():
            cos, sin = visual.rotary_pos_emb(torch.zeros(1), positions)
        block = MERGE**2
        cos = cos.view(cells**2, block, -1)[window].reshape(self.grid**2, -1)
        sin = sin.view(cells**2, block, -1)[window].reshape(self.grid**2, -1)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @staticmethod
    def _positions(cells: int) -> tuple[Tensor, Tensor]:
        index = torch.arange(cells * MERGE)
        rows = index.view(-1, 1).expand(-1, cells * MERGE)

        def by_block(grid: Tensor) -> Tensor:
            blocks = grid.reshape(cells, MERGE, cells, MERGE)
            return blocks.permute(0, 2, 1, 3).reshape(-1)

        return by_block(rows), by_block(rows.T)

    def _attend(self, block: Any, x: Tensor, full: bool) -> Tensor:
        attention = block.attn
        batch, tokens, width = x.shape
        heads = attention.num_heads
        groups = 1 if full else tokens // self.window_tokens
        qkv = attention.qkv(x).view(batch, tokens, 3, heads, width // heads)
        query, key, value = qkv.unbind(2)
        cos, sin = self.cos[:, None], self.sin[:, None]
        parts = (_rotate(query, cos, sin), _rotate(key, cos, sin), value)
        query, key, value = (
            part.reshape(batch * groups, tokens // groups, heads, -1).transpose(1, 2)
            for part in parts
        )
        out = scaled_dot_product_attention(query, key, value)
        return attention.proj(out.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, patches: Tensor) -> Tensor:
        """Return features (B, cells, text width) in raster order of the merged cells."""
        visual: Any = self.visual
        batch, tokens, _ = patches.shape
        weight = visual.patch_embed.proj.weight
        x = patches @ weight.view(weight.shape[0], -1).T
        block = MERGE**2
        x = x.view(batch, tokens // block, block, -1)[:, self.window]
        x = x.reshape(batch, tokens, -1)
        for number, layer in enumerate(visual.blocks):
            full = number in visual.fullatt_block_indexes
            x = x + self._attend(layer, layer.norm1(x), full)
            x = x + layer.mlp(layer.norm2(x))
        merger = visual.merger
        merged = merger.mlp(merger.ln_q(x).view(batch, tokens // block, -1))
        return merged[:, self.unwindow]


class TextForward(nn.Module):
    """Language model over right-padded rows with an explicit attention mask.

    Args:
        model: with a Qwen2 as language model, whose positions may have three axes or one.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        whole: Any = model
        self.text: Any = whole.model.language_model
        turns = len(self.text.rotary_emb.inv_freq)
        sections = self.text.config.rope_parameters.get("mrope_section", [turns])
        self.sections = list(sections)
        # One axis, or three whose sections alternate.
        self.axes = min(3, len(self.sections))

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (cos, sin), each (B, 1, T, head width), for *positions* (3, B, T)."""
        inverse = self.text.rotary_emb.inv_freq
        angles = positions[..., None].float() * inverse
        parts = angles.split(self.sections, dim=-1)
        mixed = torch.cat([part[i % self.axes] for i, part in enumerate(parts)], dim=-1)
        mixed = torch.cat((mixed, mixed), dim=-1)
        return mixed.cos()[:, None], mixed.sin()[:, None]

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Return hidden states (B, T, width) for embeddings *x* and a mask (B, 1, T, T)."""
        return self.layers(x, positions, mask)[0]

    def layers(self, x: Tensor, positions: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what :meth:`forward` does, and what leaves each layer, (B, T, width)."""
        cos, sin = self.rotary(positions)
        left: list[Tensor] = []
        batch, tokens, _ = x.shape
        for layer in self.text.layers:
            attention = layer.self_attn
            h = layer.input_layernorm(x)
            shape = (batch, tokens, -1, attention.head_dim)
            query = _rotate(attention.q_proj(h).view(shape).transpose(1, 2), cos, sin)
            key = _rotate(attention.k_proj(h).view(shape).transpose(1, 2), cos, sin)
            value = attention.v_proj(h).view(shape).transpose(1, 2)
            repeat = query.shape[1] // key.shape[1]
            out = scaled_dot_product_attention(
                query,
                key.repeat_interleave(repeat, dim=1),
                value.repeat_interleave(repeat, dim=1),
                attn_mask=mask,
            )
            x = x + attention.o_proj(out.transpose(1, 2).reshape(batch, tokens, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            left.append(x)
        return self.text.norm(x), left
