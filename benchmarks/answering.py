"""Questions per second: the nano VLM's batched answering against one question at a time.

Both ways run in this process, on the same pictures, questions and weights, in
alternating rounds; the figure is the ratio of their rates.  "One at a time" is
how the reference evaluator works: for each question decode the picture,
preprocess it, call ``generate`` of transformers' own model on picture and prompt,
decode the answer.

    python benchmarks/answering.py [--images 8] [--questions 18] [--rounds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lossylens.codec import SOURCE
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind, default_prompt
from lossylens_task_scenes.questions.existence import existence_questions
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
from lossylens_vlm_nano.plugin import NanoOptions
from lossylens_vlm_nano.prompt import prompt_prefix, prompt_suffix
from lossylens_vlm_nano.vlm import ANSWER_LIMIT, BUNDLED, Nano
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SEED = 21


def pope_like(images: int, questions: int) -> tuple[list[bytes], list[list[Question]]]:
    """Return PNG files and, for each, its existence questions."""
    files, asked = [], []
    for index in range(images):
        scene = make_scene(SEED, index)
        buffer = io.BytesIO()
        render(scene).save(buffer, "PNG")
        files.append(buffer.getvalue())
        rng = np.random.default_rng([SEED, index])
        asked.append(
            [
                Question(kind=QuestionKind.YES_NO, text=question.text)
                for question in existence_questions(scene, rng, questions)
            ]
        )
    return files, asked


class OneAtATime:
    """Answers as the reference evaluator does: picture and prompt anew for each question."""

    def __init__(self) -> None:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(BUNDLED, dtype=torch.float32)
        self.model = model.eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(BUNDLED)
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(BUNDLED)

    @torch.inference_mode()
    def answer(self, files: list[bytes], asked: list[list[Question]]) -> list[str]:
        """Return the answers to all questions."""
        return [
            self._answer(data, question)
            for data, questions in zip(files, asked, strict=True)
            for question in questions
        ]

    def _answer(self, data: bytes, question: Question) -> str:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        inputs = self.processor(images=[image], return_tensors="pt")
        visual = int(inputs["image_grid_thw"].prod()) // 4
        prompt = prompt_prefix(visual) + prompt_suffix(default_prompt(question))
        tokens = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        written = self.model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            mm_token_type_ids=(tokens == self.model.config.image_token_id).int(),
            max_new_tokens=ANSWER_LIMIT,
            do_sample=False,
            **inputs,
        )
        return self.tokenizer.decode(written[0, tokens.shape[1] :], skip_special_tokens=True)


def _about(image: Image.Image, questions: list[Question]) -> ImageQuestions:
    return ImageQuestions((image,), tuple(questions), (Condition(SOURCE, image.size),))


def batched(nano: Nano, files: list[bytes], asked: list[list[Question]]) -> list[str]:
    """Answer through the contract, pictures in batches."""
    answers: list[str] = []
    for first in range(0, len(files), nano.batch_images):
        batch = [
            _about(Image.open(io.BytesIO(data)).convert("RGB"), questions)
            for data, questions in zip(
                files[first : first + nano.batch_images],
                asked[first : first + nano.batch_images],
                strict=True,
            )
        ]
        answers += [answer.text or "" for group in nano.answer(batch) for answer in group]
    return answers


def _timed(way: Callable[[], list[str]]) -> tuple[float, list[str]]:
    started = time.perf_counter()
    answers = way()
    return time.perf_counter() - started, answers


def main() -> None:
    """Run both ways in turn and print their rates and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--questions", type=int, default=18)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    nano, single = Nano(NanoOptions(device="cpu")), OneAtATime()
    files, asked = pope_like(arguments.images, arguments.questions)
    total = sum(map(len, asked))
    single.answer(files[:1], asked[:1])
    batched(nano, files[:1], asked[:1])
    slow, fast = [], []
    for _ in range(arguments.rounds):
        seconds, expected = _timed(lambda: single.answer(files, asked))
        slow.append(total / seconds)
        seconds, answers = _timed(lambda: batched(nano, files, asked))
        fast.append(total / seconds)
        if answers != expected:
            raise SystemExit("the two ways answer differently")
    print(
        f"{arguments.images} images x {arguments.questions} questions, {arguments.threads} threads"
    )
    print(f"one at a time  {statistics.median(slow):8.1f} questions/s")
    print(f"batched        {statistics.median(fast):8.1f} questions/s")
    ratios = [f / s for f, s in zip(fast, slow, strict=True)]
    spread = f"(rounds: {min(ratios):.1f} to {max(ratios):.1f})"
    print(f"ratio          {statistics.median(ratios):8.1f}   {spread}")


if __name__ == "__main__":
    main()
