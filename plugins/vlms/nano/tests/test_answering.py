"""Batched answering gives what transformers' generate gives one question at a time."""

from __future__ import annotations

import numpy as np
import torch
from lossylens_vlm_nano.answering import Answerer, Row
from lossylens_vlm_nano.prompt import prompt_prefix, prompt_suffix
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

QUESTIONS = (
    "Is there a star?",
    "Is there a very large purple star in the image? Please answer yes or no.",
    "What color is the ring?\nAnswer the question using a single word or phrase.",
    "Hint: none\nQuestion: Which?\nOptions:\nA. x\nB. y\n",
)
LIMIT = 6


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(5)
    sizes = ((224, 224), (150, 300), (70, 64))
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in sizes
    ]


def one_at_a_time(model, tokenizer, processor, image: Image.Image, text: str) -> list[int]:
    inputs = processor(images=[image], return_tensors="pt")
    visual = int(inputs["image_grid_thw"].prod()) // 4
    ids = tokenizer.encode(prompt_prefix(visual) + prompt_suffix(text), add_special_tokens=False)
    tokens = torch.tensor([ids])
    out = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        mm_token_type_ids=(tokens == model.config.image_token_id).int(),
        max_new_tokens=LIMIT,
        do_sample=False,
        **inputs,
    )
    written = out[0, len(ids) :].tolist()
    return (
        written[: written.index(tokenizer.eos_token_id)]
        if tokenizer.eos_token_id in written
        else written
    )


def test_batched_answers_equal_generate(random_model, tokenizer) -> None:
    processor = Qwen2VLImageProcessorPil(min_pixels=112**2, max_pixels=224**2)
    images = pictures()
    answerer = Answerer(random_model, tokenizer, processor, rows_at_once=5)
    rows = [Row(i, text, LIMIT) for i in range(len(images)) for text in QUESTIONS]
    batched = answerer.answer(images, rows)
    single = [
        one_at_a_time(random_model, tokenizer, processor, images[row.image], row.text)
        for row in rows
    ]
    assert batched == single
    # Answers must differ, or equality would say little.
    assert len({tuple(answer) for answer in batched}) > len(rows) // 2


def test_each_row_has_its_own_limit(random_model, tokenizer) -> None:
    processor = Qwen2VLImageProcessorPil(min_pixels=112**2, max_pixels=224**2)
    answerer = Answerer(random_model, tokenizer, processor, rows_at_once=8)
    image = pictures()[:1]
    long = answerer.answer(image, [Row(0, text, LIMIT) for text in QUESTIONS])
    mixed = answerer.answer(image, [Row(0, text, 1 + i) for i, text in enumerate(QUESTIONS)])
    assert mixed == [answer[: 1 + i] for i, answer in enumerate(long)]


def test_finished_rows_do_not_disturb_the_others(random_model, tokenizer) -> None:
    """The token that ends answers is moved, so that rows end at different steps."""
    processor = Qwen2VLImageProcessorPil(min_pixels=112**2, max_pixels=224**2)
    answerer = Answerer(random_model, tokenizer, processor, rows_at_once=8)
    images = pictures()
    rows = [Row(i, text, LIMIT) for i in range(len(images)) for text in QUESTIONS]
    plain = answerer.answer(images, rows)
    answerer.end = plain[0][2]
    cut = answerer.answer(images, rows)
    for full, short in zip(plain, cut, strict=True):
        stop = full.index(answerer.end) if answerer.end in full else len(full)
        assert short == full[:stop]
