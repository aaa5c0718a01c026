"""Answers are what transformers' generate gives one question at a time, in fp32."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lossylens.vlm import ImageQuestions, Question, QuestionKind, default_prompt
from lossylens_task_scenes.questions.full_set import ask
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
from lossylens_toolkit.transformers_vlm.vlm_testing import about
from lossylens_vlm_nano.architecture import IMAGE_PAD, VISION_END
from lossylens_vlm_nano.plugin import NanoOptions
from lossylens_vlm_nano.prompt import prompt_prefix, prompt_suffix
from lossylens_vlm_nano.training.data import HELD_OUT_SEED
from lossylens_vlm_nano.vlm import ANSWER_LIMIT, BUNDLED, Nano
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

QUESTIONS = (
    Question(QuestionKind.OPEN, "Is there a star?", max_new_tokens=6),
    Question(
        QuestionKind.YES_NO,
        "Is there a very large purple star in the image? Please answer yes or no.",
        max_new_tokens=5,
    ),
    Question(QuestionKind.SHORT_ANSWER, "What color is the ring?", max_new_tokens=1),
    Question(
        QuestionKind.MULTIPLE_CHOICE,
        "Which?",
        options={"A": "x", "B": "y"},
        hint="none",
        max_new_tokens=6,
    ),
)


class OneAtATime:
    """A checkpoint as transformers runs it."""

    def __init__(self, folder: Path) -> None:
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32
        ).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(folder)

    def answer(self, images: Sequence[Image.Image], question: Question) -> tuple[str, int]:
        """Return the answer and how many tokens it has."""
        text = default_prompt(question)
        order = [int(number) - 1 for number in re.findall(r"<image (\d)>", text)]
        if not order:
            order = list(range(len(images)))
            text = "".join(f"<image {number + 1}>" for number in order) + text
        inputs = self.processor(images=[images[number] for number in order], return_tensors="pt")
        # What surrounds the picture of a prompt surrounds each of them.
        opening, start = prompt_prefix(0).removesuffix(VISION_END).split("user\n")
        for place, grid in zip(order, inputs["image_grid_thw"], strict=True):
            span = f"{start}{IMAGE_PAD * (int(grid.prod()) // 4)}{VISION_END}"
            text = text.replace(f"<image {place + 1}>", span, 1)
        prompt = f"{opening}user\n{prompt_suffix(text)}"
        ids = self.tokenizer.encode(prompt, add_special_tokens=False)
        tokens = torch.tensor([ids])
        out = self.model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            mm_token_type_ids=(tokens == self.model.config.image_token_id).int(),
            max_new_tokens=question.max_new_tokens or ANSWER_LIMIT,
            do_sample=False,
            **inputs,
        )
        written = out[0, len(ids) :].tolist()
        end = self.tokenizer.eos_token_id
        tokens_before = written.index(end) if end in written else len(written)
        text = self.tokenizer.decode(written[:tokens_before], skip_special_tokens=True)
        return text, tokens_before


def assert_equal(folder: Path, items: list[ImageQuestions]) -> list[str]:
    """Compare both ways on *items*; return the answers."""
    single = OneAtATime(folder)
    expected = [[single.answer(item.images, each) for each in item.questions] for item in items]
    nano = Nano(NanoOptions(checkpoint=str(folder), device="cpu"))
    answers = nano.answer(items)
    assert [
        [(each.text, each.usage["output_tokens"]) for each in given] for given in answers
    ] == expected
    return [text for given in expected for text, _ in given]


@pytest.fixture
def random_checkpoint(random_model, tokenizer, tmp_path) -> Path:
    for part in (
        random_model,
        tokenizer,
        Qwen2VLImageProcessorPil(min_pixels=112**2, max_pixels=224**2),
    ):
        part.save_pretrained(tmp_path)
    return tmp_path


def test_random_weights_and_pictures_of_many_sizes(random_checkpoint) -> None:
    rng = np.random.default_rng(5)
    items = [
        about(Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)), *QUESTIONS)
        for height, width in ((224, 224), (150, 300), (70, 64))
    ]
    answers = assert_equal(random_checkpoint, items)
    # Answers must differ, or equality would say little.
    assert len(set(answers)) > len(answers) // 2


SEVERAL = (
    Question(QuestionKind.OPEN, "Is there a star in both?", max_new_tokens=6),
    Question(QuestionKind.SHORT_ANSWER, "Is <image 2> or <image 1> the red one?", max_new_tokens=6),
    Question(
        QuestionKind.MULTIPLE_CHOICE,
        "<image 1> What is like it?",
        options={"A": "<image 2>", "B": "<image 1>"},
        max_new_tokens=6,
    ),
)


def test_several_pictures(random_checkpoint) -> None:
    """Of different sizes, repeated, in the text and in options."""
    rng = np.random.default_rng(6)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in ((224, 224), (150, 300), (70, 64))
    ]
    items = [
        about(pictures[:2], *SEVERAL),
        about(pictures, *SEVERAL),
        about([pictures[2], pictures[2]], *SEVERAL),
    ]
    answers = assert_equal(random_checkpoint, items)
    assert len(set(answers)) > len(answers) // 2


def test_bundled_weights_and_several_scenes() -> None:
    scenes = [render(make_scene(HELD_OUT_SEED, index)) for index in range(3)]
    assert_equal(BUNDLED, [about(scenes, *SEVERAL), about(scenes[1:], *SEVERAL)])


def test_bundled_weights_and_questions_of_all_kinds() -> None:
    scenes = [make_scene(HELD_OUT_SEED, index) for index in range(2)]
    items = [
        about(render(scene), *(each.structured() for each in ask(scene)[::3])) for scene in scenes
    ]
    answers = assert_equal(BUNDLED, items)
    assert len(set(answers)) > 3


def test_prompt_is_what_the_weights_were_trained_with() -> None:
    family = Nano(NanoOptions(device="cpu")).family
    [picture] = family.tower.prepare([Image.new("RGB", (300, 200))])
    visual = family.visual_tokens(picture.layout)
    text = "Is there a star?\nAnswer yes or no. \n"
    before, after = family.prompt(Question(QuestionKind.OPEN, text), 1)
    prefix = family.prefix(family.texts(before)[:-1], [picture.layout])
    for given, expected in (
        (prefix.ids, prompt_prefix(visual)),
        (list(*family.texts(after)), prompt_suffix(text)),
    ):
        assert given == family.tokenizer.encode(expected, add_special_tokens=False)
