"""InternVL3 (Zhu et al., arXiv:2504.10479) in the layout of transformers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from PIL.Image import Image
from torch import Tensor
from transformers import (
    AutoTokenizer,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from lossylens.errors import RequirementError
from lossylens.toolkit.transformers_vlm.family import Family
from lossylens.toolkit.transformers_vlm.options import InternVLOptions
from lossylens.toolkit.transformers_vlm.pictures import Layout, Picture
from lossylens.toolkit.transformers_vlm.tower import TiledTower, heads_apart
from lossylens.toolkit.transformers_vlm.vlm import TransformersVlm
from lossylens.toolkit.transformers_vlm.wording import internvl_wording
from lossylens.vlm import Question

#: The system prompt with which the authors' code, and so the reference evaluator, asks.
SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的"
    "多模态大语言模型。"
)

#: Longest answer, in tokens, as the reference evaluator sets it.
LIMIT = 4096

#: Most tiles of an image, thumbnail not counted, and the reference evaluator's exception.
TILES = 6
TASK_TILES = {"ocrbench": 24}

#: Tiles that several images share, thumbnails not counted.
TILES_TOGETHER = 64


class InternVLPreprocessor:
    """Cuts an image into square tiles and adds a thumbnail; the detail is their number."""

    def __init__(self, processor: GotOcr2ImageProcessorPil, patch: int) -> None:
        self.processor: Any = processor
        self.patch = patch

    def __call__(self, image: Image, detail: Hashable) -> Picture:
        """Return ``(tiles, 3, side, side)``, the thumbnail last."""
        most = detail if isinstance(detail, int) else TILES
        pixels = self.processor(
            images=[image],
            return_tensors="pt",
            crop_to_patches=True,
            min_patches=1,
            max_patches=most,
        )["pixel_values"]
        tiles, _, height, width = pixels.shape
        return Picture(pixels, Layout(tiles, height // self.patch, width // self.patch, extra=1))


class InternVLTower(TiledTower):
    """InternViT with pixel shuffle and projector."""

    def __init__(
        self, model: InternVLForConditionalGeneration, preprocess: InternVLPreprocessor
    ) -> None:
        config = model.config
        if (config.vision_feature_layer, config.vision_feature_select_strategy) != (-1, "default"):
            raise RequirementError("an InternVL checkpoint must use the last layer's patch tokens")
        self.module: Any = model.model.vision_tower
        self.projector: Any = model.model.multi_modal_projector
        self.projectors = {"projector": self.projector}
        self._shuffle: Any = model.model.pixel_shuffle
        self._ratio = config.downsample_ratio
        self.preprocess = preprocess
        self.layers = self.module.config.num_hidden_layers
        self.width = self.module.config.hidden_size

    def first(self, pixels: Tensor) -> Tensor:
        """Return class token and patch embedding with positions."""
        return self.module.embeddings(pixels)

    def block(self, number: int, hidden: Tensor) -> Tensor:
        """Return the output of one layer."""
        return self.module.encoder.layer[number](hidden)

    def query_key(self, number: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and key of one layer."""
        block = self.module.encoder.layer[number]
        given, attention = block.layernorm_before(hidden), block.attention
        query = attention.q_norm(attention.q_proj(given))
        key = attention.k_norm(attention.k_proj(given))
        return heads_apart(query, attention.num_heads), heads_apart(key, attention.num_heads)

    def last(self, hidden: Tensor) -> Tensor:
        """Return the patches, four to a token, projected."""
        patches = self.module.layernorm(hidden)[:, 1:]
        side = round(patches.shape[1] ** 0.5)
        shuffled = self._shuffle(patches.unflatten(1, (side, side)), self._ratio)
        return self.projector(shuffled.flatten(1, 2))


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
        if images == 1:
            return [0, self.wording(question)]
        numbered: list[str | int] = []
        for number in range(images):
            # The wording begins with the newline behind the last.
            numbered += ["\n" * (number > 0) + f"Image-{number + 1}: ", number]
        return [*numbered, self.wording(question)]

    def detail(self, question: Question, images: int) -> Hashable:
        """Return the most tiles of each image; several images share 64."""
        return max(1, min(self._tiles(question.task), TILES_TOGETHER // max(1, images)))

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
