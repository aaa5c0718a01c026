"""Worker processes give the same pictures, and images can be announced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.transformers_vlm.families.qwen2_5_vl import Qwen25Preprocessor
from lossylens_toolkit.transformers_vlm.preprocessing import Preprocessing
from lossylens_toolkit.transformers_vlm.vlm_testing import about, blocks
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

EDGES = ("shortest_edge", "longest_edge")
QUESTIONS = (
    Question(QuestionKind.OPEN, "Is it?", max_new_tokens=3),
    Question(QuestionKind.OPEN, "Is it?", task="ocrbench", max_new_tokens=3),
)


@pytest.mark.slow
def test_workers_preprocess_as_this_process_does(open_vlm) -> None:
    vlm = open_vlm("internvl", preprocess_workers=1)
    items = [about(blocks(120, 80, n), *QUESTIONS) for n in range(3)]
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
    item = about(blocks(120, 80, 1), *QUESTIONS)
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
    failed, answered = vlm.answer([about(image, *QUESTIONS) for image in (thin, good)])
    assert all("cannot be preprocessed: absolute aspect ratio" in each.failure for each in failed)
    assert all(each.text is not None for each in answered)


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    limits=st.none() | st.tuples(st.integers(1, 20), st.integers(20, 60)),
    mean=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@example(width=448, height=448, limits=(256, 256), mean=0.4814, seed=1)
def test_qwen_pictures_are_the_processors(width, height, limits, mean, seed) -> None:
    """Bit by bit, though they come by another way."""
    processor = Qwen2VLImageProcessorPil(
        min_pixels=784, max_pixels=40 * 784, image_mean=[mean, 0.46, 0.41]
    )
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    detail = limits and (limits[0] * 784, limits[1] * 784)
    size = {} if detail is None else {"size": dict(zip(EDGES, detail, strict=True))}
    expected = processor(images=[image], return_tensors="pt", **size)
    picture = Qwen25Preprocessor(processor)(image, detail)
    assert torch.equal(picture.pixels, expected["pixel_values"])
    layout = picture.layout
    assert [[1, layout.rows, layout.columns]] == expected["image_grid_thw"].tolist()
