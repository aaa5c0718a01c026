"""InternVL3 (Zhu et al., arXiv:2504.10479) in the layout of transformers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from lossylens.errors import RequirementError
from lossylens.vlm import Box, Question
from PIL.Image import Image, Resampling
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

from lossylens_toolkit.transformers_vlm.boxes import as_fractions
from lossylens_toolkit.transformers_vlm.family import Family
from lossylens_toolkit.transformers_vlm.tower import TiledTower, heads_apart
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE, Layout, PreparedImage
from lossylens_toolkit.transformers_vlm.vlm_options import InternVLOptions
from lossylens_toolkit.transformers_vlm.wording import FILM_TASKS, internvl_wording
from lossylens_toolkit.written_boxes import four_numbers

#: The system prompt with which the authors' code, and so the reference evaluator, asks.
SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的"
    "多模态大语言模型。"
)

#: Longest answer, in tokens, as the reference evaluator sets it.
LIMIT = 4096

#: Most tiles of an image, thumbnail not counted, and the reference evaluator's exceptions.
TILES = 6
TASK_TILES = {
    "chartqa": 12,
    "docvqa": 18,
    "infovqa": 24,
    "mmmu": 12,
    "ocrbench": 24,
    **dict.fromkeys(FILM_TASKS, 1),
}

#: Tasks whose first image the reference evaluator enlarges two times before it is cut.
DOUBLED_TASKS = frozenset({"mmmu"})

#: Tiles that several images share, thumbnails not counted.
TILES_TOGETHER = 64

#: The numbers of a box are thousandths, unless they add up to less than this: the authors' rule.
_FEWEST_THOUSANDTHS = 4


@dataclass(frozen=True, slots=True)
class Doubled:
    """The detail of an image that is enlarged two times.

    Attributes:
        most: tiles, thumbnail not counted.
    """

    most: int


class InternVLPreprocessor:
    """Cuts an image into square tiles and adds a thumbnail.

    The detail is the most tiles, or :class:`Doubled`.
    """

    def __init__(self, processor: GotOcr2ImageProcessorPil, patch: int) -> None:
        self.processor: Any = processor
        self.patch = patch

    def __call__(self, image: Image, detail: Hashable) -> PreparedImage:
        """Return ``(tiles, 3, side, side)``, the thumbnail last."""
        large = image
        if isinstance(detail, Doubled):
            large = image.resize(_doubled(image.size), Resampling.BILINEAR)
        pixels = self.processor(
            images=[large],
            return_tensors="pt",
            crop_to_patches=True,
            min_patches=1,
            max_patches=_most(detail),
        )["pixel_values"]
        return PreparedImage(pixels, self.layout(image.size, detail))

    def layout(self, size: tuple[int, int], detail: Hashable) -> Layout:
        """Return tiles row by row, and the whole image as the last if it was cut."""
        size = _doubled(size) if isinstance(detail, Doubled) else size
        side = self.processor.size
        columns, rows = tile_grid(size, side.height, _most(detail))
        rectangles = [
            (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
            for row in range(rows)
            for column in range(columns)
        ]
        if len(rectangles) > 1:
            rectangles.append(WHOLE)
        grid = side.height // self.patch, side.width // self.patch
        return Layout(len(rectangles), *grid, extra=1, rectangles=tuple(rectangles))


def tile_grid(size: tuple[int, int], side: int, most: int) -> tuple[int, int]:
    """Return the columns and rows of tiles into which an image is cut.

    Args:
        size: width and height of the image.
        side: of a tile, in pixels.
        most: tiles.
    """
    columns, rows = get_optimal_tiled_canvas(size[::-1], (side, side), 1, most)
    return columns, rows


def _most(detail: Hashable) -> int:
    if isinstance(detail, Doubled):
        return detail.most
    return detail if isinstance(detail, int) else TILES


def _doubled(size: tuple[int, int]) -> tuple[int, int]:
    return 2 * size[0], 2 * size[1]


class InternVLTower(TiledTower):
    """InternViT with pixel shuffle and projector.

    Hidden states may enter with any number of tiles of any grid with even rows and columns,
    one class token in each.
    """

    preprocess: InternVLPreprocessor
    unused = frozenset({"embeddings.mask_token"})
    extra = 1
    tiled = True

    def __init__(
        self, model: InternVLForConditionalGeneration, preprocess: InternVLPreprocessor
    ) -> None:
        config = model.config
        if (config.vision_feature_layer, config.vision_feature_select_strategy) != (-1, "default"):
            raise RequirementError("an InternVL checkpoint must use the last layer's patch tokens")
        self.module: Any = model.model.vision_tower
        self.projectors = {"projector": model.model.multi_modal_projector}
        self.preprocess = preprocess
        self.merge = round(1 / config.downsample_ratio)
        self.layers = self.module.config.num_hidden_layers
        self.width = self.module.config.hidden_size

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return the layout at the default number of tiles."""
        return self.preprocess.layout(size, self.detail)

    def detail_at(self, resolution: int) -> Hashable:
        """Return as many tiles as have *resolution* pixels, at least one.

        It is the most that an image may have, the thumbnail not counted; how many it has
        depends on its shape, and a small image is not cut.
        """
        side = self.preprocess.processor.size
        return max(1, round(resolution / (side.height * side.width)))

    def first(self, pixels: Tensor) -> Tensor:
        """Return class token and patch embedding with positions."""
        return self.module.embeddings(pixels)

    def norms(self, number: int) -> tuple[nn.Module, nn.Module]:
        """Return the norms of one layer."""
        block = self.module.encoder.layer[number]
        return block.layernorm_before, block.layernorm_after

    def mix(self, number: int, given: Tensor) -> Tensor:
        """Return attention, scaled."""
        block = self.module.encoder.layer[number]
        return block.lambda_1 * block.attention(given)[0]

    def feed(self, number: int, given: Tensor) -> Tensor:
        """Return the feed-forward network, scaled."""
        block = self.module.encoder.layer[number]
        return block.lambda_2 * block.dropout(block.mlp(given))

    def query_key(self, number: int, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and key of one layer."""
        attention = self.module.encoder.layer[number].attention
        query = attention.q_norm(attention.q_proj(given))
        key = attention.k_norm(attention.k_proj(given))
        return heads_apart(query, attention.num_heads), heads_apart(key, attention.num_heads)

    def last(self, hidden: Tensor, rows: int, columns: int) -> Tensor:
        """Return the patches, four to a token, projected."""
        patches = self.module.layernorm(hidden)[:, 1:].unflatten(1, (rows, columns))
        squares = patches.unflatten(2, (-1, self.merge)).unflatten(1, (-1, self.merge))
        # (tiles, rows, 2, columns, 2, width) to (tiles, rows * columns, 2 * 2 * width).
        tokens = squares.transpose(2, 3).flatten(3).flatten(1, 2)
        return self.projectors["projector"](tokens)


class InternVL(Family):
    """InternVL3 of any size.

    Args:
        model: loaded.
        tokenizer: of the checkpoint.
        processor: of the checkpoint.
        system: system prompt; ``""`` leaves the system turn away.
        limit: most tokens of an answer where the question sets none.
        tiles: most tiles of an image of a task; the reference
            evaluator's by default.
    """

    def __init__(
        self,
        model: InternVLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: GotOcr2ImageProcessorPil,
        *,
        system: str = SYSTEM,
        limit: int = LIMIT,
        tiles: Callable[[str], int] = lambda task: TASK_TILES.get(task, TILES),
    ) -> None:
        super().__init__(model, model.model.language_model, tokenizer, limit)
        vision: Any = model.config.vision_config
        self.preprocess = InternVLPreprocessor(processor, vision.patch_size[0])
        self.tower = InternVLTower(model, self.preprocess)
        self.image_token = model.config.image_token_id
        self._tiles = tiles
        self.tower.detail = tiles("")
        self._per_tile = model.config.downsample_ratio**2
        self.use_chatml(system)
        self.image_start, self.image_end = self.special("<img>"), self.special("</img>")

    def wording(self, question: Question) -> str:
        """Return the reference evaluator's wording for InternVL3."""
        return internvl_wording(question)

    def content(self, question: Question, images: int) -> Sequence[str | int]:
        """Return the images, numbered where there are several, and then the text.

        Markers stay in the text.
        """
        film = question.task in FILM_TASKS
        if images == 1 and not film:
            return [0, self.wording(question)]
        name = "Frame" if film else "Image"
        numbered: list[str | int] = []
        for number in range(images):
            # The wording begins with the newline behind the last.
            numbered += ["\n" * (number > 0) + f"{name}-{number + 1}: ", number]
        return [*numbered, self.wording(question)]

    def box(self, text: str, size: tuple[int, int], detail: Hashable) -> Box | None:
        """Return the box whose numbers are thousandths of the image, however it was cut."""
        numbers = four_numbers(text)
        if numbers is None:
            return None
        whole = 1000 if sum(numbers) >= _FEWEST_THOUSANDTHS else 1
        return as_fractions(numbers, (whole, whole))

    def detail(self, question: Question, images: int) -> Hashable:
        """Return the most tiles of each image; several images share 64."""
        return max(1, min(self._tiles(question.task), TILES_TOGETHER // max(1, images)))

    def details(self, question: Question, images: int) -> tuple[Hashable, ...]:
        """Return the most tiles of each image, the first one enlarged in some tasks."""
        first, *others = super().details(question, images)
        return (Doubled(_most(first)) if question.task in DOUBLED_TASKS else first, *others)

    def visual_tokens(self, layout: Layout) -> int:
        """Return 256 tokens per tile of 32x32 patches."""
        return layout.tiles * round(layout.rows * layout.columns * self._per_tile)


class InternVLVlm(TransformersVlm):
    """InternVL3 behind the core's contract."""

    model_type = "internvl"
    model_class = InternVLForConditionalGeneration
    other_model_hint = "; the checkpoints whose names end in -hf are in the right layout"
    options: InternVLOptions

    def load(self) -> Family:
        """Load the checkpoint."""
        options = self.options
        return InternVL(
            self.pretrained(),
            self.part(AutoTokenizer),
            self.part(GotOcr2ImageProcessorPil),
            system=SYSTEM if options.system is None else options.system,
            limit=options.max_new_tokens or LIMIT,
            tiles=lambda task: options.max_tiles or TASK_TILES.get(task, TILES),
        )
