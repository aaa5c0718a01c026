"""nano-llava: the toolkit's LLaVA with the weights in this wheel and a prompt of its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

from lossylens.vlm import Box, Question, default_prompt
from lossylens_toolkit.transformers_vlm.families.llava import Llava
from lossylens_toolkit.transformers_vlm.family import Family, Part
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from transformers import (
    AutoTokenizer,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lossylens_vlm_nano_llava.plugin import NanoLlavaOptions

BUNDLED = Path(__file__).parent / "weights"

#: Tokens that an answer may have when neither question nor options set a limit.
ANSWER_LIMIT = 96


class NanoLlava(Llava):
    """LLaVA with the turns and the wording of nano; it was trained without a system turn."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        processor: CLIPImageProcessorPil,
        limit: int,
    ) -> None:
        super().__init__(model, tokenizer, processor, limit=limit)
        self.use_chatml("")
        self.image_start = self.special("<|vision_start|>")
        self.image_end = self.special("<|vision_end|>")

    def wording(self, question: Question) -> str:
        """Return the reference evaluator's generic wording."""
        return default_prompt(question)

    def content(self, question: Question, images: int) -> Sequence[Part]:
        """Return text and images, the images where the markers are, and else first."""
        return Family.content(self, question, images)

    def box(self, text: str, size: tuple[int, int], detail: Hashable) -> Box | None:
        """Return None: it was not trained to write boxes."""
        return None


class NanoLlavaVlm(TransformersVlm):
    """A VLM of 4 million parameters of the LLaVA architecture, trained on scenes.

    Raises:
        ConfigError: a device that does not exist here.
        RequirementError: a file of the checkpoint is missing or damaged, or it is of
            another architecture.
    """

    model_type = "llava"
    model_class = LlavaForConditionalGeneration

    def __init__(self, options: NanoLlavaOptions) -> None:
        super().__init__(replace(options, checkpoint=options.checkpoint or str(BUNDLED)))

    def load(self) -> NanoLlava:
        """Load the checkpoint."""
        return NanoLlava(
            self.pretrained(),
            self.part(AutoTokenizer),
            self.part(CLIPImageProcessorPil),
            self.options.max_new_tokens or ANSWER_LIMIT,
        )
