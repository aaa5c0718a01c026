"""The nano VLM: the toolkit's Qwen2.5-VL with the weights in this wheel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lossylens_toolkit.transformers_vlm.families.qwen2_5_vl import Qwen25
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lossylens_vlm_nano.plugin import NanoOptions

BUNDLED = Path(__file__).parent / "weights"

#: Tokens that an answer may have when neither question nor options set a limit.
ANSWER_LIMIT = 96


class Nano(TransformersVlm):
    """A 5-million-parameter VLM of the Qwen2.5-VL architecture, trained on scenes.

    Raises:
        ConfigError: a device that does not exist here.
        RequirementError: a file of the checkpoint is missing or damaged, or it is of
            another architecture.
    """

    model_type = "qwen2_5_vl"
    model_class = Qwen2_5_VLForConditionalGeneration

    def __init__(self, options: NanoOptions) -> None:
        super().__init__(replace(options, checkpoint=options.checkpoint or str(BUNDLED)))

    def load(self) -> Qwen25:
        """Load the checkpoint; it was trained without a system turn, and sizes as its processor."""
        return Qwen25(
            self.pretrained(),
            self.part(AutoTokenizer),
            self.part(Qwen2VLImageProcessorPil),
            system="",
            limit=self.options.max_new_tokens or ANSWER_LIMIT,
        )
