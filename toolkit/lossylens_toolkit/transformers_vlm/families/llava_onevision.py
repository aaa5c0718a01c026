"""LLaVA-OneVision (Li et al., arXiv:2408.03326) in the layout of transformers."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from lossylens.errors import RequirementError
from lossylens.vlm import Box, Question, default_prompt
from PIL.Image import Image
from torch import Tensor, cat, nn
from torch.nn.functional import interpolate
from transformers import (
    AutoTokenizer,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerBase,
    SiglipVisionModel,
)
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from lossylens_toolkit.transformers_vlm.clip_tower import ClipLikeTower
from lossylens_toolkit.transformers_vlm.families.llava import layers_read
from lossylens_toolkit.transformers_vlm.family import Family, Part
from lossylens_toolkit.transformers_vlm.square import padded, padded_box
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE, Layout, PreparedImage
from lossylens_toolkit.transformers_vlm.vlm_options import LlavaOnevisionOptions

#: Longest answer, in tokens, as the reference evaluator sets it.
LIMIT = 2048

#: Mosaics of patches are scaled down where they exceed what is allowed by more than this.
_TOLERATED = 1.1


@dataclass(frozen=True, slots=True)
class MosaicLayout(Layout):
    """Where the first tile shows the whole image and the others make up a larger one.

    Attributes:
        tile_rows: of the other tiles.
        tile_columns: of the other tiles.
        cut_rows: patches of padding that are cut off above, and as many below.
        cut_columns: patches that are cut off on the left, and as many on the right.
    """

    tile_rows: int = 0
    tile_columns: int = 0
    cut_rows: int = 0
    cut_columns: int = 0

    @property
    def mosaic(self) -> tuple[int, int]:
        """Patches of the other tiles together, without padding: rows and columns."""
        return (
            self.tile_rows * self.rows - 2 * self.cut_rows,
            self.tile_columns * self.columns - 2 * self.cut_columns,
        )


class LlavaOnevisionPreprocessor:
    """Scales an image to a square, and again to a resolution that is cut into tiles.

    The detail is the most tiles, the first not counted: None for as many as the checkpoint
    says, 0 for a single square, to which the image is padded.
    """

    def __init__(
        self,
        processor: LlavaOnevisionImageProcessorPil,
        side: int,
        patch: int,
        resolutions: Sequence[Sequence[int]],
    ) -> None:
        self.processor: Any = processor
        self.side = side
        self.grid = side // patch
        self.resolutions = [list(each) for each in resolutions]

    def __call__(self, image: Image, detail: Hashable) -> PreparedImage:
        """Return ``(tiles, 3, side, side)``, the whole image first."""
        resolutions = self._allowed(detail)
        single = not resolutions
        pixels = self.processor(
            images=[padded(image, self.processor.image_mean) if single else image],
            return_tensors="pt",
            size={"height": self.side, "width": self.side},
            image_grid_pinpoints=resolutions or [[self.side, self.side]],
        )["pixel_values"][0]
        # Without tiles the processor would show a square twice.
        return PreparedImage(pixels[:1] if single else pixels, self.layout(image.size, detail))

    def layout(self, size: tuple[int, int], detail: Hashable) -> Layout:
        """Return the whole image, then tiles row by row, which reach beyond it."""
        resolutions = self._allowed(detail)
        if not resolutions:
            return Layout(1, self.grid, self.grid, rectangles=(padded_box(size),))
        rows, columns, rectangles = mosaic_tiles(size, self.side, resolutions)
        cut_rows, cut_columns = _padding(size, rows * self.grid, columns * self.grid)
        return MosaicLayout(
            1 + len(rectangles),
            self.grid,
            self.grid,
            rectangles=(WHOLE, *rectangles),
            tile_rows=rows,
            tile_columns=columns,
            cut_rows=cut_rows,
            cut_columns=cut_columns,
        )

    def _allowed(self, detail: Hashable) -> list[list[int]]:
        """Return the resolutions, height and width, of at most so many tiles."""
        most = detail if isinstance(detail, int) else math.inf
        return [each for each in self.resolutions if math.prod(each) <= most * self.side**2]


def mosaic_tiles(
    size: tuple[int, int], side: int, resolutions: Sequence[Sequence[int]]
) -> tuple[int, int, list[Box]]:
    """Return rows and columns of the tiles of an image, and what each shows, row by row.

    Args:
        size: width and height of the image.
        side: of a tile, in pixels.
        resolutions: that are allowed, height and width, multiples of *side*.
    """
    best = select_best_resolution(size[::-1], [list(each) for each in resolutions])
    rows, columns = (each // side for each in best)
    across, down = _scaled(size, best)
    x, y = (best[1] - across) // 2, (best[0] - down) // 2
    rectangles = [
        (
            (column * side - x) / across,
            (row * side - y) / down,
            ((column + 1) * side - x) / across,
            ((row + 1) * side - y) / down,
        )
        for row in range(rows)
        for column in range(columns)
    ]
    return rows, columns, rectangles


def _scaled(size: tuple[int, int], best: tuple[int, int]) -> tuple[int, int]:
    """Return the width and height that the processor scales an image to, before it pads."""
    (width, height), (most_down, most_across) = size, best
    by_width, by_height = most_across / width, most_down / height
    if by_width < by_height:
        return most_across, min(math.ceil(height * by_width), most_down)
    return min(math.ceil(width * by_height), most_across), most_down


def _padding(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    """Return the rows and columns on each side of a mosaic that show padding alone."""
    width, height = size
    if width / height > columns / rows:
        return (rows - int(round(height * (columns / width), 7))) // 2, 0
    return 0, (columns - int(round(width * (rows / height), 7))) // 2


class _Newline(nn.Module):
    """The learned token that ends a row of patches."""

    def __init__(self, vector: nn.Parameter) -> None:
        super().__init__()
        self.vector = vector


class LlavaOnevisionTower(ClipLikeTower):
    """SigLIP with projector, and the newlines between rows of patches.

    Hidden states enter in one tile of any grid, or in the tiles of a :class:`MosaicLayout`.
    """

    preprocess: LlavaOnevisionPreprocessor
    tiled = True

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        preprocess: LlavaOnevisionPreprocessor,
        most: int,
    ) -> None:
        inner: Any = model.model
        super().__init__(inner.vision_tower, layers_read(model.config))
        self.projectors = {
            "projector": inner.multi_modal_projector,
            "newline": _Newline(inner.image_newline),
        }
        self.preprocess = preprocess
        self._most = most

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return the layout at the default number of tiles."""
        return self.preprocess.layout(size, self.detail)

    def detail_at(self, resolution: int) -> Hashable:
        """Return as many tiles as have *resolution* pixels; no more than one is a single square.

        It is the most that an image may have beside the whole; how many it has depends on
        its size and shape.
        """
        tiles = round(resolution / self.preprocess.side**2)
        return tiles if tiles > 1 else 0

    def refusal(self, layout: Layout) -> str:
        """Return why hidden states of *layout* cannot be entered."""
        tiles = layout.tile_rows * layout.tile_columns if isinstance(layout, MosaicLayout) else 0
        if layout.tiles != 1 + tiles:
            return f"it does not say how its {layout.tiles} tiles lie; take the layout of a picture"
        return super().refusal(layout)

    def last(self, hidden: Tensor, rows: int, columns: int) -> Tensor:
        """Return the projected patches."""
        return self.projectors["projector"](hidden)

    def project(self, flow: Any) -> list[Tensor]:
        """Return per image the whole image's tokens, then those of the mosaic, row by row."""
        pairs = zip(super().project(flow), flow.layouts, strict=True)
        return [self._packed(tokens, layout) for tokens, layout in pairs]

    def _packed(self, tokens: Tensor, layout: Layout) -> Tensor:
        newline: Any = self.projectors["newline"].vector
        newline = newline.to(tokens)
        if not isinstance(layout, MosaicLayout):
            return cat((tokens, newline[None]))
        whole, others = tokens.split([layout.tokens, len(tokens) - layout.tokens])
        # (tile rows, tile columns, rows, columns, D) to (D, all rows, all columns).
        by_tile = others.view(
            layout.tile_rows, layout.tile_columns, layout.rows, layout.columns, -1
        )
        mosaic = by_tile.permute(4, 0, 2, 1, 3).flatten(3).flatten(1, 2)
        rows, columns = layout.mosaic
        top, left = layout.cut_rows, layout.cut_columns
        mosaic = mosaic[:, top : top + rows, left : left + columns]
        size = self.mosaic(layout)
        if size != layout.mosaic:
            mosaic = interpolate(mosaic[None], size, mode="bilinear")[0]
        ends = newline[:, None, None].expand(-1, len(mosaic[0]), 1)
        return cat((whole, cat((mosaic, ends), -1).flatten(1).T))

    def mosaic(self, layout: MosaicLayout) -> tuple[int, int]:
        """Return rows and columns of the mosaic's tokens, newlines not counted."""
        rows, columns = layout.mosaic
        ratio = math.sqrt(rows * columns / (self._most * layout.rows * layout.columns))
        if ratio <= _TOLERATED:
            return rows, columns
        return int(rows // ratio), int(columns // ratio)

    def tokens(self, layout: Layout) -> int:
        """Return how many visual tokens an image of *layout* becomes."""
        if not isinstance(layout, MosaicLayout):
            return layout.tokens + 1
        rows, columns = self.mosaic(layout)
        return layout.tokens + rows * (columns + 1)


class LlavaOnevision(Family):
    """LLaVA-OneVision of any size.

    Args:
        model: loaded.
        tokenizer: of the checkpoint.
        processor: of the checkpoint; values are normalised as it says.
        limit: most tokens of an answer where the question sets none.
        tiles: most tiles of an image; None for as many as the checkpoint says.

    Raises:
        RequirementError: the vision encoder is not SigLIP's, or is read in another way.
    """

    tower: LlavaOnevisionTower

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: LlavaOnevisionImageProcessorPil,
        *,
        limit: int = LIMIT,
        tiles: int | None = None,
    ) -> None:
        super().__init__(model, model.model.language_model, tokenizer, limit)
        config: Any = model.config
        vision = config.vision_config
        kind = re.fullmatch(r"anyres_max_(\d{1,3})", config.vision_aspect_ratio)
        found = type(model.model.vision_tower), config.vision_feature_select_strategy
        if found != (SiglipVisionModel, "full") or kind is None:
            raise RequirementError(
                "a LLaVA-OneVision checkpoint must read all tokens of a siglip_vision_model, at"
                f" anyres_max_9 or alike, not {found[1]} of {vision.model_type} at"
                f" {config.vision_aspect_ratio}"
            )
        self.preprocess = LlavaOnevisionPreprocessor(
            processor, vision.image_size, vision.patch_size, config.image_grid_pinpoints
        )
        self.tower = LlavaOnevisionTower(model, self.preprocess, int(kind[1]))
        self.tower.detail = tiles
        self.image_token = config.image_token_id
        # The checkpoint's template has a blank behind the role, the newline with the text,
        # and none between turns; the role is text, which a text that follows may merge with.
        self.opening = (self.special("<|im_start|>"), "user \n")
        self.closing = (self.special("<|im_end|><|im_start|>assistant\n"),)
        self.image_start = self.image_end = ()

    def wording(self, question: Question) -> str:
        """Return the reference evaluator's generic wording; the model has none of its own."""
        return default_prompt(question)

    def content(self, question: Question, images: int) -> Sequence[Part]:
        """Return text and images, a newline behind each image as the evaluator has it."""
        parts: list[Part] = []
        for part in super().content(question, images):
            parts += [part, "\n"] if isinstance(part, int) else [part]
        return parts

    def detail(self, question: Question, images: int) -> Hashable:
        """Return the most tiles; several that are shown have one square each, as in training."""
        shown = sum(isinstance(part, int) for part in self.content(question, images))
        return self.tower.detail if shown == 1 else 0

    def visual_tokens(self, layout: Layout) -> int:
        """Return one token per patch that is left, and one for each newline."""
        return self.tower.tokens(layout)


class LlavaOnevisionVlm(TransformersVlm):
    """LLaVA-OneVision behind the core's contract."""

    model_type = "llava_onevision"
    model_class = LlavaOnevisionForConditionalGeneration
    other_model_hint = "; the checkpoints of llava-hf are in the right layout"
    options: LlavaOnevisionOptions

    def load(self) -> Family:
        """Load the checkpoint."""
        options = self.options
        return LlavaOnevision(
            self.pretrained(),
            self.part(AutoTokenizer),
            self.part(LlavaOnevisionImageProcessorPil),
            limit=options.max_new_tokens or LIMIT,
            tiles=options.max_tiles,
        )
