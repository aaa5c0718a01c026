"""Worker processes give the same pictures, and images can be announced."""

from __future__ import annotations

import pytest
import torch
from lossylens.toolkit.transformers_vlm.preprocessing import Preprocessing
from lossylens.toolkit.transformers_vlm.testing import blocks
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind

QUESTIONS = (
    Question(QuestionKind.OPEN, "Is it?", max_new_tokens=3),
    Question(QuestionKind.OPEN, "Is it?", task="ocrbench", max_new_tokens=3),
)


@pytest.mark.slow
def test_workers_preprocess_as_this_process_does(open_vlm) -> None:
    vlm = open_vlm("internvl", preprocess_workers=1)
    items = [ImageQuestions(blocks(120, 80, n), QUESTIONS, Condition("", "")) for n in range(3)]
    expected = open_vlm("internvl", preprocess_workers=0).answer(items)
    pool = vlm._model().preprocessing
    try:
        for item in items[:2]:
            vlm.expect(item)
        assert vlm.answer(items) == expected
        pictures = [pool.submit(items[0].image, 3)(), vlm.family.preprocess(items[0].image, 3)]
        assert torch.equal(pictures[0].pixels, pictures[1].pixels)
        assert pictures[0].layout == pictures[1].layout
    finally:
        pool.close()


def test_announced_images_are_preprocessed_once(open_vlm) -> None:
    vlm = open_vlm("internvl", max_tiles=None)
    item = ImageQuestions(blocks(120, 80, 1), QUESTIONS, Condition("", ""))
    details = []

    class Recording(Preprocessing):
        works_ahead = True

        def submit(self, image, detail):
            details.append(detail)
            return super().submit(image, detail)

    vlm._model().preprocessing = Recording(vlm.family.preprocess, 0)
    vlm.expect(item)
    [[first, second]] = vlm.answer([item])
    assert details == [6, 24], "OCRBench wants more tiles"
    assert second.usage["input_tokens"] > first.usage["input_tokens"]
    vlm.answer([item])
    assert details == [6, 24, 6, 24]


def test_an_image_that_cannot_be_preprocessed_fails_alone(open_vlm) -> None:
    vlm = open_vlm("qwen2_5_vl")
    thin, good = blocks(2000, 2, 1), blocks(80, 60, 2)
    items = [ImageQuestions(image, QUESTIONS, Condition("", "")) for image in (thin, good)]
    failed, answered = vlm.answer(items)
    assert all("cannot be preprocessed: absolute aspect ratio" in each.failure for each in failed)
    assert all(each.text is not None for each in answered)
