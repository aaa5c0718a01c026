"""Janus-Pro (Chen et al., arXiv:2501.17811), the half that understands images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from lossylens.vlm import Question, QuestionKind, interleaved
from PIL.Image import Image
from torch import Tensor, nn
from transformers import AutoTokenizer, JanusForConditionalGeneration, PreTrainedTokenizerBase
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from lossylens_toolkit.transformers_vlm.family import Family
from lossylens_toolkit.transformers_vlm.tower import TiledTower, heads_apart
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, PreparedImage
from lossylens_toolkit.transformers_vlm.wording import janus_wording

#: Longest answer, in tokens, as the reference evaluator sets it.
LIMIT = 2048


class JanusPreprocessor:
    """Scales the longer side to the encoder's size and pads to a square."""

    def __init__(self, processor: JanusImageProcessorPil, patch: int) -> None:
        self.processor: Any = processor
        self.patch = patch

    def __call__(self, image: Image, detail: Hashable) -> PreparedImage:
        """Return ``(1, 3, side, side)``."""
        pixels = self.processor(images=[image], return_tensors="pt")["pixel_values"]
        return PreparedImage(pixels, self.layout(image.size))

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return a tile that shows the padded square: it reaches beyond the image."""
        side = self.processor.size.height
        scale = side / max(size)
        scaled = [max(round(each * scale), self.processor.min_size) for each in size]
        square = max(scaled)
        starts = [(square - each) // 2 for each in scaled]
        left, top = (-start / each for start, each in zip(starts, scaled, strict=True))
        right, bottom = (
            (square - start) / each for start, each in zip(starts, scaled, strict=True)
        )
        grid = side // self.patch
        return Layout(1, grid, grid, rectangles=((left, top, right, bottom),))


class JanusTower(TiledTower):
    """SigLIP with its aligner.

    Hidden states may enter in any grid.  Images are always scaled to one size.
    """

    preprocess: JanusPreprocessor

    def __init__(self, model: JanusForConditionalGeneration, preprocess: JanusPreprocessor) -> None:
        self.module: Any = model.model.vision_model
        self.projectors = {"aligner": model.model.aligner}
        self.preprocess = preprocess
        config = self.module.config
        self.layers, self.width = config.num_hidden_layers, config.hidden_size

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return the layout, which is the same but for its rectangle."""
        return self.preprocess.layout(size)

    def first(self, pixels: Tensor) -> Tensor:
        """Return patch embedding and positions."""
        return self.module.embeddings(pixels)

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
        query = attention.q_norm(heads_apart(attention.q_proj(given), heads))
        return query, attention.k_norm(heads_apart(attention.k_proj(given), heads))

    def last(self, hidden: Tensor, rows: int, columns: int) -> Tensor:
        """Return the aligned tokens."""
        return self.projectors["aligner"](self.module.post_layernorm(hidden))


class Janus(Family):
    """Janus-Pro of any size.

    Args:
        model: loaded.
        tokenizer: of the checkpoint.
        processor: of the checkpoint.
        limit: most tokens of an answer where the question sets none.
    """

    def __init__(
        self,
        model: JanusForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: JanusImageProcessorPil,
        *,
        limit: int = LIMIT,
    ) -> None:
        super().__init__(model, model.model.language_model, tokenizer, limit)
        vision: Any = model.config.vision_config
        self.preprocess = JanusPreprocessor(processor, vision.patch_size)
        self.tower = JanusTower(model, self.preprocess)
        self.image_token = model.config.image_token_id
        # The reference evaluator's roles are words, not the special tokens of the
        # checkpoint's chat template, and its system prompt is empty.
        self.opening = (self.special(tokenizer.bos_token or ""), "User: ")
        self.closing = ("\n\nAssistant:",)
        self.image_start = self.special(_named(tokenizer, "boi_token"))
        self.image_end = self.special(_named(tokenizer, "eoi_token"))

    def wording(self, question: Question) -> str:
        """Return the reference evaluator's wording for Janus-Pro."""
        return janus_wording(question)

    def content(self, question: Question, images: int) -> Sequence[str | int]:
        """Return text and images, blanks at both ends left away as the evaluator does.

        A wording of the model's own follows all images, and markers stay in it; the generic
        one has the images at its markers.
        """
        text = self.wording(question).rstrip()
        if question.kind in (QuestionKind.MULTIPLE_CHOICE, QuestionKind.YES_NO):
            return [*range(images), text]
        first, *others = interleaved(text, images)
        return [first.lstrip() if isinstance(first, str) else first, *others]

    def visual_tokens(self, layout: Layout) -> int:
        """Return one token per patch."""
        return layout.tokens


def _named(tokenizer: Any, name: str) -> str:
    return str(getattr(tokenizer, name))


class JanusVlm(TransformersVlm):
    """Janus-Pro behind the core's contract."""

    model_type = "janus"
    model_class = JanusForConditionalGeneration
    other_model_hint = "; the checkpoints of deepseek-community are in the right layout"

    def load(self) -> Family:
        """Load the checkpoint."""
        return Janus(
            self.pretrained(),
            self.part(AutoTokenizer),
            self.part(JanusImageProcessorPil),
            limit=self.options.max_new_tokens or LIMIT,
        )
