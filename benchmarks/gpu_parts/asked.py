"""What the models are asked, through the engine and one question at a time."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lossylens.codec import SOURCE
from lossylens.testing.pictures import picture
from lossylens.vlm import Condition, Question, QuestionKind
from lossylens_toolkit.transformers_vlm.engine import Engine, Prompts, Shown, Suffix
from lossylens_toolkit.transformers_vlm.families.llava_onevision import MosaicLayout
from lossylens_toolkit.transformers_vlm.family import Family
from lossylens_toolkit.transformers_vlm.vlm_testing import generate_alone
from PIL.Image import Image

# fmt: off
_THINGS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "kite",
    "bottle", "cup", "fork", "chair",
)
# fmt: on

#: As POPE words them, one for each of the largest number of questions about an image.
QUESTIONS = [
    Question(
        QuestionKind.YES_NO,
        f"Is there a {thing} in the image? Please answer yes or no.",
        task="pope",
    )
    for thing in _THINGS
]


def questions(count: int, tokens: int) -> tuple[Question, ...]:
    """Return *count* questions whose answers have at most *tokens* tokens."""
    return tuple(replace(question, max_new_tokens=tokens) for question in QUESTIONS[:count])


def pictures(count: int, *, tiny: bool) -> list[Image]:
    """Return pictures in the size of most photographs of the benchmarks."""
    height, width = (60, 80) if tiny else (480, 640)
    return [picture(height, width, seed) for seed in range(count)]


def asked(family: Family, image: Image, about: Sequence[Question]) -> Prompts:
    """Return *about* as the engine is asked it; all questions have one detail."""
    detail = family.detail(about[0], 1)
    rows = []
    for question in about:
        prefix, suffix = family.prompt(question, 1)
        [ids] = family.texts(suffix)
        rows.append(Suffix(list(ids), question.max_new_tokens or family.limit))
    shown = Shown(family.preprocess(image, detail), Condition(SOURCE, image.size))
    return Prompts((shown,), tuple(family.texts(prefix)[:-1]), tuple(rows))


def together(engine: Engine, items: Sequence[Prompts]) -> list[list[int]]:
    """Return the tokens of all answers of the engine, in order."""
    return [written.tokens for group in engine.answer(items) for written in group]


class OneAtATime:
    """Asks transformers' own model, as the reference evaluator does.

    For each question the image is preprocessed and encoded, and the prompt prefilled, anew.
    Preprocessing is lossylens's, which is the faster one.

    Args:
        model: of transformers.
        family: of the same model.
    """

    def __init__(self, model: Any, family: Family) -> None:
        self.model, self.family = model, family

    def __call__(self, items: Sequence[tuple[Image, Question]]) -> list[list[int]]:
        """Return the tokens of the answers."""
        decoder: Any = self.family.decoder
        before = decoder.config._attn_implementation
        # The engine's own attention is for masks that one question does not have.
        decoder.set_attn_implementation("sdpa")
        try:
            return [self._answer(image, question) for image, question in items]
        finally:
            decoder.set_attn_implementation(before)

    def _answer(self, image: Image, question: Question) -> list[int]:
        family = self.family
        made = family.preprocess(image, family.detail(question, 1))
        parameter = next(self.model.parameters())
        inputs = {"pixel_values": made.pixels.to(parameter.device, parameter.dtype)}
        if family.position_axes > 1:
            grid = [[1, made.layout.rows, made.layout.columns]]
            inputs["image_grid_thw"] = torch.tensor(grid, device=parameter.device)
        if isinstance(made.layout, MosaicLayout):
            inputs["pixel_values"] = inputs["pixel_values"][None]
            inputs["image_sizes"] = torch.tensor([[image.height, image.width]])
        prefix, suffix = family.prompt(question, 1)
        [ids] = family.texts(suffix)
        prompt = family.prefix(family.texts(prefix)[:-1], [made.layout]).ids + list(ids)
        return generate_alone(self.model, prompt, question.max_new_tokens or family.limit, **inputs)


def same(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> int:
    """Return how many answers are equal, token by token."""
    return sum(list(a) == list(b) for a, b in zip(found, expected, strict=True))


def same_first(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> int:
    """Return how many answers begin with the same token."""
    return same([each[:1] for each in found], [each[:1] for each in expected])


def free(device: torch.device) -> None:
    """Give memory back that nothing holds any longer."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
