"""The transform-neck: one linear layer and a transformer block, from latents to hidden states.

Kao et al., "Bridging Compressed Image Latents and Multimodal Large Language Models", ICLR 2025,
arXiv:2407.19651.  Parameters are named as in the authors' files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Bounds of what a checkpoint's header may ask for.
_MOST = {"channels": 4096, "width": 8192, "rows": 256, "columns": 256, "extra": 1, "blocks": 24}
_MOST_HIDDEN, _MOST_HEADS = 65536, 128


@dataclass(frozen=True)
class NeckShape:
    """Sizes of a neck.

    Attributes:
        channels: of the latents.
        width: of the vision encoder's hidden states.
        rows, columns: of latents, which are those of the encoder's patches.
        extra: class tokens of the encoder, 0 or 1.
        blocks: transformer blocks.
        heads: of their attention.
        hidden: width inside their feed-forward networks.

    Raises:
        ValueError: a value out of range, or *heads* do not divide *width*.
    """

    channels: int
    width: int
    rows: int
    columns: int
    extra: int = 1
    blocks: int = 1
    heads: int = 16
    hidden: int = 4096

    def __post_init__(self) -> None:
        """Check the values."""
        limits = {**_MOST, "heads": _MOST_HEADS, "hidden": _MOST_HIDDEN}
        for name, most in limits.items():
            value, least = getattr(self, name), 0 if name == "extra" else 1
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most}, got {value!r}")
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")

    @classmethod
    def read(cls, described: Any) -> NeckShape:
        """Return what :meth:`described` gave.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(described, Mapping) or set(described) != set(cls.__dataclass_fields__):
            raise ValueError("its header describes no neck")
        return cls(**described)

    @classmethod
    def of_authors(cls, state: Mapping[str, Tensor]) -> NeckShape:
        """Return the sizes of a neck of the authors', whose heads are 64 wide.

        Raises:
            ValueError: *state* is of something else.
        """
        try:
            width, channels = state["trans_latent_dim.weight"].shape
            tokens = len(state["positional_embedding"]) - 1
            hidden = len(state["transformer.resblocks.0.mlp.c_fc.weight"])
        except (KeyError, ValueError) as error:
            raise ValueError("it holds no transform-neck") from error
        side = round(tokens**0.5)
        if side * side != tokens:
            raise ValueError(f"its {tokens} positions make no square")
        blocks = len({name.split(".")[2] for name in state if name.startswith("transformer.")})
        return cls(channels, width, side, side, 1, blocks, max(1, width // 64), hidden)

    def described(self) -> dict[str, int]:
        """Return the sizes as JSON can hold them."""
        return asdict(self)


class TransformNeck(nn.Module):
    """Latents to the input of a layer of a vision encoder.

    With 320 channels on CLIP ViT-L/14 at 224 pixels it has 13,191,168 parameters.

    Args:
        shape: of latents and hidden states.
    """

    def __init__(self, shape: NeckShape) -> None:
        super().__init__()
        self.shape = shape
        scale = shape.width**-0.5
        tokens = shape.extra + shape.rows * shape.columns
        self.trans_latent_dim = nn.Linear(shape.channels, shape.width)
        if shape.extra:
            self.class_embedding = nn.Parameter(scale * torch.randn(shape.width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(tokens, shape.width))
        self.ln_pre = nn.LayerNorm(shape.width)
        self.transformer = _Transformer(shape)

    def forward(self, latents: Tensor) -> Tensor:
        """Return hidden states ``(B, extra + rows * columns, width)``, row by row.

        Args:
            latents: quantised, ``(B, channels, rows, columns)``.
        """
        tokens = self.trans_latent_dim(latents.flatten(2).transpose(1, 2))
        if self.shape.extra:
            own = self.class_embedding.expand(len(tokens), 1, -1)
            tokens = torch.cat([own, tokens], 1)
        states: Tensor = self.transformer(self.ln_pre(tokens + self.positional_embedding))
        return states


class _Transformer(nn.Module):
    def __init__(self, shape: NeckShape) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(_Block(shape) for _ in range(shape.blocks)))

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.resblocks(tokens)
        return found


class _Block(nn.Module):
    def __init__(self, shape: NeckShape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.width)
        self.attn = nn.MultiheadAttention(shape.width, shape.heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(shape.width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(shape.width, shape.hidden),
                gelu=_QuickGelu(),
                c_proj=nn.Linear(shape.hidden, shape.width),
            )
        )

    def forward(self, tokens: Tensor) -> Tensor:
        given = self.ln_1(tokens)
        tokens = tokens + self.attn(given, given, given, need_weights=False)[0]
        found: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return found


class _QuickGelu(nn.Module):
    """OpenAI CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)
