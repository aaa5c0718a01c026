"""LLaVA-1.5 (Liu et al., arXiv:2310.03744) in the layout of transformers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from lossylens.errors import RequirementError
from lossylens.vlm import Box, Question, QuestionKind, interleaved
from PIL.Image import Image
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPVisionModel,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lossylens_toolkit.transformers_vlm.boxes import from_part
from lossylens_toolkit.transformers_vlm.clip_tower import ClipLikeTower
from lossylens_toolkit.transformers_vlm.family import Family, Part
from lossylens_toolkit.transformers_vlm.square import padded, padded_box
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, PreparedImage
from lossylens_toolkit.transformers_vlm.vlm_options import LlavaOptions
from lossylens_toolkit.transformers_vlm.wording import llava_wording
from lossylens_toolkit.written_boxes import four_numbers

#: What precedes the user's turn, blank included, as the reference evaluator writes it.
SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions. "
)

#: Longest answer, in tokens, as the reference evaluator sets it.
LIMIT = 2048


class LlavaPreprocessor:
    """Pads an image to a square and scales that to the encoder's size."""

    def __init__(self, processor: CLIPImageProcessorPil, side: int, patch: int) -> None:
        self.processor: Any = processor
        self.side = side
        self.patch = patch

    def __call__(self, image: Image, detail: Hashable) -> PreparedImage:
        """Return ``(1, 3, side, side)``; there is one detail."""
        square = padded(image, self.processor.image_mean)
        pixels = self.processor(
            images=[square],
            return_tensors="pt",
            size={"height": self.side, "width": self.side},
            do_center_crop=False,
        )["pixel_values"]
        return PreparedImage(pixels, self.layout(image.size))

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return a tile that shows the padded square: it reaches beyond the image."""
        grid = self.side // self.patch
        return Layout(1, grid, grid, extra=1, rectangles=(padded_box(size),))


class LlavaTower(ClipLikeTower):
    """CLIP's image encoder up to the layer that is read, with the projector.

    The class token goes through all layers and is then left out.  Images are always scaled
    to one size.
    """

    preprocess: LlavaPreprocessor

    def __init__(self, model: LlavaForConditionalGeneration, preprocess: LlavaPreprocessor) -> None:
        super().__init__(model.model.vision_tower, layers_read(model.config))
        self.projectors = {"projector": model.model.multi_modal_projector}
        self.preprocess = preprocess

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return the layout, which is the same but for its rectangle."""
        return self.preprocess.layout(size)

    def last(self, hidden: Tensor, rows: int, columns: int) -> Tensor:
        """Return the projected patches."""
        return self.projectors["projector"](hidden[:, 1:])


def layers_read(config: Any) -> int:
    """Return how many layers of the vision encoder are used, by a checkpoint's configuration.

    Raises:
        RequirementError: several layers are read together, or one that there is not.
    """
    layer, layers = config.vision_feature_layer, config.vision_config.num_hidden_layers
    if isinstance(layer, int):
        read = layer + layers + 1 if layer < 0 else layer
        if 0 < read <= layers:
            return read
    raise RequirementError(
        f"vision_feature_layer of the checkpoint is {layer}; it must be one of {layers} layers"
    )


class Llava(Family):
    """LLaVA-1.5 of any size.

    Args:
        model: loaded.
        tokenizer: of the checkpoint.
        processor: of the checkpoint; values are normalised as it says.
        limit: most tokens of an answer where the question sets none.
        short_answers: whether yes-no questions end in the request for a short answer.
        own_box_wording: whether boxes are asked for as in training.

    Raises:
        RequirementError: the vision encoder is not CLIP's, or is read in another way.
    """

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: CLIPImageProcessorPil,
        *,
        limit: int = LIMIT,
        short_answers: bool = False,
        own_box_wording: bool = False,
    ) -> None:
        super().__init__(model, model.model.language_model, tokenizer, limit)
        config: Any = model.config
        found = type(model.model.vision_tower), config.vision_feature_select_strategy
        if found != (CLIPVisionModel, "default"):
            raise RequirementError(
                "a LLaVA checkpoint must read the patch tokens of a vision encoder of type"
                f" clip_vision_model, not {found[1]} of {config.vision_config.model_type}"
            )
        vision = config.vision_config
        self.preprocess = LlavaPreprocessor(processor, vision.image_size, vision.patch_size)
        self.tower = LlavaTower(model, self.preprocess)
        self.image_token = config.image_token_id
        self._short_answers = short_answers
        self._own_box_wording = own_box_wording
        self.opening = (self.special(tokenizer.bos_token or ""), f"{SYSTEM}USER: ")
        self.closing = (" ASSISTANT: ",)
        self.image_start = self.image_end = ()

    def wording(self, question: Question) -> str:
        """Return the reference evaluator's wording for LLaVA."""
        return llava_wording(
            question, short_answers=self._short_answers, own_boxes=self._own_box_wording
        )

    def box(self, text: str, size: tuple[int, int], detail: Hashable) -> Box | None:
        """Return the box whose numbers are fractions of the padded square."""
        numbers = four_numbers(text)
        return None if numbers is None else from_part(numbers, padded_box(size))

    def content(self, question: Question, images: int) -> Sequence[Part]:
        """Return text and images, blanks around each image as the evaluator has it.

        Multiple choice follows all images, and markers stay in it; other questions have the
        images at their markers.
        """
        text = self.wording(question)
        choice = question.kind is QuestionKind.MULTIPLE_CHOICE
        spaced: list[Part] = []
        for part in [*range(images), text] if choice else interleaved(text, images):
            spaced += [" ", part, " "] if isinstance(part, int) else [part]
        return spaced

    def visual_tokens(self, layout: Layout) -> int:
        """Return one token per patch."""
        return layout.tiles * layout.rows * layout.columns


class LlavaVlm(TransformersVlm):
    """LLaVA-1.5 behind the core's contract."""

    model_type = "llava"
    model_class = LlavaForConditionalGeneration
    other_model_hint = "; the checkpoints of llava-hf are in the right layout"
    options: LlavaOptions

    def load(self) -> Family:
        """Load the checkpoint."""
        options = self.options
        return Llava(
            self.pretrained(),
            self.part(AutoTokenizer),
            self.part(CLIPImageProcessorPil),
            limit=options.max_new_tokens or LIMIT,
            short_answers=options.short_answers,
            own_box_wording=options.own_box_wording,
        )
