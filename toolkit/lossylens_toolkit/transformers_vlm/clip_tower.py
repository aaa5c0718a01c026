"""The image encoders of CLIP (arXiv:2103.00020) and SigLIP (arXiv:2303.15343), as towers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lossylens_toolkit.transformers_vlm.tower import TiledTower, heads_apart


class ClipLikeTower(TiledTower):
    """Layers that are named as in transformers' ``CLIPVisionModel`` and ``SiglipVisionModel``.

    The norm that precedes CLIP's layers is part of the embedding: the input of layer 0 is
    behind it.  Hidden states may enter in any grid.

    Args:
        module: of one of the two classes.
        layers: how many of its layers count; nothing behind them is used.
    """

    module: Any

    def __init__(self, module: Any, layers: int) -> None:
        self.module = module
        self.layers, self.width = layers, module.config.hidden_size
        self.extra = int(hasattr(module.embeddings, "class_embedding"))
        used = ("embeddings.", "pre_layrnorm.", *(f"encoder.layers.{n}." for n in range(layers)))
        names = (name for name, _ in module.named_parameters())
        self.unused = frozenset(name for name in names if not name.startswith(used))

    def first(self, pixels: Tensor) -> Tensor:
        """Return patch embedding and positions, CLIP's with class token and normalised."""
        embedded = self.module.embeddings(pixels)
        return self.module.pre_layrnorm(embedded) if self.extra else embedded

    def norms(self, number: int) -> tuple[nn.Module, nn.Module]:
        """Return the norms of one layer."""
        block = self.module.encoder.layers[number]
        return block.layer_norm1, block.layer_norm2

    def mix(self, number: int, given: Tensor) -> Tensor:
        """Return attention."""
        return self.module.encoder.layers[number].self_attn(given, None)[0]

    def feed(self, number: int, given: Tensor) -> Tensor:
        """Return the feed-forward network."""
        return self.module.encoder.layers[number].mlp(given)

    def query_key(self, number: int, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and key of one layer."""
        attention = self.module.encoder.layers[number].self_attn
        heads = attention.num_heads
        return (
            heads_apart(attention.q_proj(given), heads),
            heads_apart(attention.k_proj(given), heads),
        )
