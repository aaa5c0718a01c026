"""What passes between preprocessing, vision encoder and language model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tokens of one image lie in its vision encoder.

    The hidden states of an image have the shape ``(tiles, tokens, width)``, where
    the ``extra`` tokens come first and the patches follow row by row.

    Attributes:
        tiles: how many squares the image was cut into; 1 where it is not cut.
        rows: of patches, per tile.
        columns: of patches, per tile.
        extra: class tokens per tile.
    """

    tiles: int
    rows: int
    columns: int
    extra: int = 0

    @property
    def tokens(self) -> int:
        """Tokens per tile, class tokens included."""
        return self.extra + self.rows * self.columns


@dataclass(frozen=True, slots=True)
class Picture:
    """One image, preprocessed.

    Attributes:
        pixels: what the vision encoder's first layer takes, in fp32 on the CPU, as
            the image processor returns it.
        layout: of the tokens that it becomes.
    """

    pixels: Tensor
    layout: Layout


@dataclass(frozen=True, slots=True)
class VisualTokens:
    """One image, encoded.

    Attributes:
        features: ``(visual tokens, width of the language model)``.
        layout: of the patches they came from; the language model's positions and the
            number of placeholders in the prompt depend on it.
    """

    features: Tensor
    layout: Layout
