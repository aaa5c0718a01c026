"""What passes between preprocessing, vision encoder and language model."""

from __future__ import annotations

from dataclasses import dataclass

from lossylens.errors import ConfigError
from lossylens.vlm import Box
from torch import Tensor

#: The whole image.
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


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
        rectangles: for each tile the part of the image that it shows: left, top, right
            and bottom as fractions of width and height.  Where an image is padded, these
            are the sides of the padded image, so they lie outside 0 to 1.

    Raises:
        ConfigError: there are not as many rectangles as tiles.
    """

    tiles: int
    rows: int
    columns: int
    extra: int = 0
    rectangles: tuple[Box, ...] = (WHOLE,)

    def __post_init__(self) -> None:
        if len(self.rectangles) != self.tiles:
            raise ConfigError(
                f"a layout of {self.tiles} tiles needs a rectangle for each, "
                f"not {len(self.rectangles)}"
            )

    @property
    def tokens(self) -> int:
        """Tokens per tile, class tokens included."""
        return self.extra + self.rows * self.columns


@dataclass(frozen=True, slots=True)
class PreparedImage:
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
