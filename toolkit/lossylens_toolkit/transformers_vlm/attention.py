"""Attention of the decoder over caches that many questions share."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

#: Name under which transformers knows it.
GROUPED = "lossylens_grouped"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend with the query heads that share a key-value head as one longer query.

    PyTorch's fast kernels take a mask or shared key-value heads, not both, so
    transformers copies the cache once per query head of a group whenever there is a
    mask.  Folding the group into the sequence copies the mask instead, which is smaller
    by orders.

    Args:
        module: the attention layer.
        query: ``(B, heads, S, head width)``.
        key: ``(B, key-value heads, T, head width)``.
        value: as *key*.
        attention_mask: boolean or additive ``(B, 1, S, T)``; None for causal
            attention of the whole sequence, or of its last token.
        scaling: of the scores.
        kwargs: ignored; models pass what other implementations need.
    """
    batch, heads, length, width = query.shape
    shared = key.shape[1]
    if attention_mask is None:
        out = scaled_dot_product_attention(
            query, key, value, is_causal=length > 1, scale=scaling, enable_gqa=heads != shared
        )
    else:
        folded = query.reshape(batch, shared, heads // shared * length, width)
        mask = attention_mask[..., : key.shape[2]].repeat(1, 1, heads // shared, 1)
        out = scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(batch, heads, length, width).transpose(1, 2).contiguous(), None


def use_grouped_attention(decoder: Any) -> None:
    """Make *decoder*, a model of transformers, attend with :func:`grouped_attention`."""
    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, sdpa_mask)
    decoder.set_attn_implementation(GROUPED)
