"""Janus-Pro (Chen et al., arXiv:2501.17811), the half that understands images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from PIL.Image import Image
from torch import Tensor
from transformers import AutoTokenizer, JanusForConditionalGeneration, PreTrainedTokenizerBase
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from lossylens.toolkit.transformers_vlm.family import Family
from lossylens.toolkit.transformers_vlm.pictures import Layout, Picture
from lossylens.toolkit.transformers_vlm.tower import TiledTower, heads_apart
from lossylens.toolkit.transformers_vlm.vlm import TransformersVlm
from lossylens.toolkit.transformers_vlm.wording import janus_wording
from lossylens.vlm import Question, QuestionKind, interleaved

#: Longest answer, in tokens, as the reference evaluator sets it.
LIMIT = 2048


class JanusPreprocessor:
    """Scales the longer side to the encoder's size and pads to a square."""

    def __init__(self, processor: JanusImageProcessorPil, patch: int) -> None:
        self.processor: Any = processor
        self.patch = patch

    def __call__(self, image: Image, detail: Hashable) -> Picture:
        """Return ``(1, 3, side, side)``."""
        pixels = self.processor(images=[image], return_tensors="pt")["pixel_values"]
        height, width = pixels.shape[-2:]
        return Picture(pixels, Layout(1, height // self.patch, width // self.patch))


class JanusTower(TiledTower):
    """SigLIP with its aligner."""

    def __init__(self, model: JanusForConditionalGeneration, preprocess: JanusPreprocessor) -> None:
        self.module: Any = model.model.vision_model
        self.aligner: Any = model.model.aligner
        self.projectors = {"aligner": self.aligner}
        self.preprocess = preprocess
        config = self.module.config
        self.layers, self.width = config.num_hidden_layers, config.hidden_size

    def first(self, pixels: Tensor) -> Tensor:
        """Return patch embedding and positions."""
        return self.module.embeddings(pixels)

    def block(self, number: int, hidden: Tensor) -> Tensor:
        """Return the output of one layer."""
        return self.module.encoder.layers[number](hidden, None)

    def query_key(self, number: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and key of one layer."""
        block = self.module.encoder.layers[number]
        given, attention = block.layer_norm1(hidden), block.self_attn
        heads = attention.num_heads
        query = attention.q_norm(heads_apart(attention.q_proj(given), heads))
        return query, attention.k_norm(heads_apart(attention.k_proj(given), heads))

    def last(self, hidden: Tensor) -> Tensor:
        """Return the aligned tokens."""
        return self.aligner(self.module.post_layernorm(hidden))


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
