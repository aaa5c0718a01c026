"""The nano VLM behind the core's contract."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from lossylens.errors import RequirementError
from lossylens.vlm import Answer, ImageQuestions, Question, Vlm, default_prompt
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lossylens_vlm_nano.answering import Answerer, Row
from lossylens_vlm_nano.plugin import NanoOptions

BUNDLED = Path(__file__).parent / "weights"

#: Tokens that an answer may have when the question sets no limit.
ANSWER_LIMIT = 96


class Nano(Vlm):
    """A 5-million-parameter VLM of the Qwen2.5-VL architecture, trained on scenes.

    Raises:
        RequirementError: the checkpoint folder lacks a file.
    """

    def __init__(self, options: NanoOptions) -> None:
        self.folder = Path(options.checkpoint).expanduser() if options.checkpoint else BUNDLED
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            if not (self.folder / name).is_file():
                raise RequirementError(f"nano: {self.folder} holds no {name}")
        self.batch_images = options.batch_images
        device = _device(options.device)
        # Its bars would run into the progress bars of a run.
        transformers.utils.logging.disable_progress_bar()
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            self.folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
        model.eval().to(device)
        self.answerer = Answerer(
            model,
            AutoTokenizer.from_pretrained(self.folder, local_files_only=True),
            Qwen2VLImageProcessorPil.from_pretrained(self.folder, local_files_only=True),
            options.rows_at_once,
        )
        text_config: Any = model.config.text_config
        self.context: int = text_config.max_position_embeddings

    def answer(self, batch: Sequence[ImageQuestions]) -> list[list[Answer]]:
        """Answer all questions of all images, in order; see :class:`Vlm`."""
        rows, places = [], []
        answers: list[list[Answer]] = [[] for _ in batch]
        for image, item in enumerate(batch):
            for question in item.questions:
                row = self._row(image, question)
                failure = self._too_long(row)
                places.append((image, len(answers[image]), row, failure))
                answers[image].append(Answer(None, failure))
                if not failure:
                    rows.append(row)
        if not rows:
            return answers
        written = iter(self.answerer.answer([item.image for item in batch], rows))
        for image, number, _, failure in places:
            if not failure:
                answers[image][number] = self._answer(next(written))
        return answers

    def _row(self, image: int, question: Question) -> Row:
        limit = question.max_new_tokens or ANSWER_LIMIT
        return Row(image, default_prompt(question), min(limit, ANSWER_LIMIT))

    def _too_long(self, row: Row) -> str:
        tokens = len(self.answerer.suffix(row.text))
        # Visual tokens and turn markers take at most 80 of the context.
        allowed = self.context - row.limit - 80
        if tokens <= allowed:
            return ""
        return f"the question has {tokens} tokens; nano's context leaves room for {allowed}"

    def _answer(self, tokens: list[int]) -> Answer:
        text: Any = self.answerer.tokenizer.decode(tokens, skip_special_tokens=True)
        return Answer(text, usage={"output_tokens": len(tokens)})

    def provenance(self) -> Mapping[str, str]:
        """Return the weights' hash, versions, image-processor backend, dtype and device."""
        weights = (self.folder / "model.safetensors").read_bytes()
        return {
            "weights": hashlib.sha256(weights).hexdigest(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "image processor": "PIL",
            "dtype": "float32",
            "device": self.answerer.device.type,
        }


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
