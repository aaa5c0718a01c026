"""Answers are those of transformers' generate, one question at a time, in fp32."""

from __future__ import annotations

import pytest
import transformers
from lossylens.vlm import ImageQuestions, Question, QuestionKind
from lossylens_toolkit.transformers_vlm.memory import MemoryBudget
from lossylens_toolkit.transformers_vlm.vlm_testing import (
    about,
    blocks,
    generate_alone,
    llava_inputs,
)

LIMIT = 7
IMAGES = [blocks(80, 60, 1), blocks(200, 150, 2), blocks(60, 190, 3), blocks(200, 150, 4)]
QUESTIONS = (
    Question(QuestionKind.YES_NO, "Is it red?", task="pope", max_new_tokens=LIMIT),
    Question(QuestionKind.SHORT_ANSWER, "What is the colour of it?", max_new_tokens=LIMIT),
    Question(
        QuestionKind.MULTIPLE_CHOICE,
        "Which <|im_end|>?",
        options={"A": "the first one", "B": "another"},
        hint="Look.",
        max_new_tokens=LIMIT,
    ),
    Question(QuestionKind.OPEN, "Name.", max_new_tokens=LIMIT),
)
CLASSES = {
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "internvl": "InternVLForConditionalGeneration",
    "janus": "JanusForConditionalGeneration",
    "llava": "LlavaForConditionalGeneration",
    "llava_onevision": "LlavaOnevisionForConditionalGeneration",
}


def full_prompt(kind: str, visual: int, text: str) -> list[tuple[str, bool]]:
    """The whole prompt, in parts, with whether special tokens are to be recognised."""
    chatml = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}"
    end = "<|im_end|>\n<|im_start|>assistant\n"
    if kind == "qwen2_5_vl":
        image = f"<|vision_start|>{'<|image_pad|>' * visual}<|vision_end|>"
        return [(chatml.format("Help.", image), True), (text, False), (end, True)]
    if kind == "internvl":
        image = f"<img>{'<IMG_CONTEXT>' * visual}</img>"
        return [(chatml.format("帮助。", image), True), (text, False), (end, True)]
    if kind == "llava":
        system = (
            "A chat between a curious human and an artificial intelligence assistant. The "
            "assistant gives helpful, detailed, and polite answers to the human's questions. "
        )
        image = "<image>" * visual
        return [(f"<s>{system}USER:  {image}", True), (f" {text} ASSISTANT: ", False)]
    if kind == "llava_onevision":
        image = "<image>" * visual
        end = "<|im_end|><|im_start|>assistant\n"
        return [(f"<|im_start|>user \n{image}\n", True), (text, False), (end, True)]
    image = f"<begin_of_image>{'<image_placeholder>' * visual}<end_of_image>"
    return [
        (f"<｜begin▁of▁sentence｜>User: {image}", True),
        (f"{text.rstrip()}\n\nAssistant:", False),
    ]


def alone(kind: str, folder, vlm, questions=QUESTIONS) -> list[list[str]]:
    """Ask transformers, through a model of its own."""
    model = getattr(transformers, CLASSES[kind]).from_pretrained(folder)
    tokenizer, family = vlm.family.tokenizer, vlm.family
    found = []
    for image in IMAGES:
        answers = []
        for question in questions:
            picture = family.preprocess(image, family.detail(question, 1))
            inputs = {"pixel_values": picture.pixels}
            if kind == "qwen2_5_vl":
                processor = family.preprocess.processor
                inputs = processor(images=[image], return_tensors="pt")
            if kind.startswith("llava"):
                inputs = llava_inputs(model, family.preprocess.processor, [image])
            ids = []
            visual = family.visual_tokens(picture.layout)
            for part, special in full_prompt(kind, visual, family.wording(question)):
                ids += tokenizer.encode(
                    part, add_special_tokens=False, split_special_tokens=not special
                )
            tokens = generate_alone(model, ids, question.max_new_tokens, **inputs)
            answers.append(tokenizer.decode(tokens, skip_special_tokens=True))
        found.append(answers)
    return found


def batch(questions=QUESTIONS) -> list[ImageQuestions]:
    return [about(image, *questions) for image in IMAGES]


def texts(answers) -> list[list[str | None]]:
    return [[answer.text for answer in group] for group in answers]


def test_same_answers_as_generate(kind, vlm, folders) -> None:
    expected = alone(kind, folders[kind], vlm)
    assert texts(vlm.answer(batch())) == expected
    # Answers must differ, or equality would say little.
    assert len({text for group in expected for text in group}) > len(IMAGES) * len(QUESTIONS) // 2


def test_batch_does_not_matter(vlm) -> None:
    together = vlm.answer(batch())
    assert together == [vlm.answer([item])[0] for item in batch()]
    single = [
        [vlm.answer([about(item.image, question)])[0][0]]
        for item in batch()
        for question in item.questions
    ]
    assert [answer for group in together for answer in group] == [group[0] for group in single]


def test_small_memory_makes_small_batches(vlm) -> None:
    expected = vlm.answer(batch())
    vlm._model().budget = MemoryBudget(vlm.family, bytes_at_once=1)
    assert vlm.answer(batch()) == expected


def test_limits_and_ends_are_each_questions_own(kind, open_vlm) -> None:
    """A token that occurs in answers is made to end them, so that rows end at different steps."""
    vlm = open_vlm(kind)
    full = [answer for group in vlm.answer(batch()) for answer in group]
    tokenizer = vlm.family.tokenizer
    tokens = [tokenizer.encode(answer.text, add_special_tokens=False) for answer in full]
    end = max({t for each in tokens for t in each}, key=lambda t: sum(t in each for each in tokens))
    limits = (1, 3, 5, LIMIT)
    asked = [
        Question(**{f: getattr(q, f) for f in q.__slots__} | {"max_new_tokens": limit})
        for q, limit in zip(QUESTIONS, limits, strict=True)
    ]
    vlm.family.stop = frozenset({end})
    for group, answers in zip(vlm.answer(batch(asked)), _groups(full), strict=True):
        for cut, whole, limit in zip(group, answers, limits, strict=True):
            written = tokenizer.encode(whole.text, add_special_tokens=False)
            if whole.usage["output_tokens"] != len(written):
                continue  # bytes that are no UTF-8 do not round-trip
            stop = written.index(end) if end in written else len(written)
            assert cut.usage["output_tokens"] == min(stop, limit)


def _groups(answers):
    step = len(QUESTIONS)
    return [answers[at : at + step] for at in range(0, len(answers), step)]


@pytest.mark.parametrize("text", ["<|image_pad|>", "<IMG_CONTEXT>", "<image_placeholder>"])
def test_special_tokens_in_questions_are_text(vlm, text) -> None:
    """A question cannot smuggle in an image, or end its turn."""
    asked = tuple(Question(QuestionKind.OPEN, text * n, max_new_tokens=2) for n in (1, 3))
    [once, thrice] = vlm.answer([about(IMAGES[0], *asked)])[0]
    # The tokenizer's tokens are bytes; a special token would be one for all of them.
    assert thrice.usage["input_tokens"] - once.usage["input_tokens"] == 2 * len(text)
    assert thrice.text is not None


def test_too_long_a_question_fails_alone(vlm) -> None:
    long = Question(QuestionKind.OPEN, "word " * 120)
    [[failed, answered]] = vlm.answer([about(IMAGES[0], long, QUESTIONS[0])])
    assert failed.text is None
    assert "context is 512" in failed.failure
    assert answered.text is not None
