"""How many there are."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from lossylens_task_scenes.questions.scene_question import (
    Rng,
    SceneQuestion,
    balanced_truths,
    pick,
    plural,
    short_question,
    yes_no_question,
)
from lossylens_task_scenes.scene import Scene
from lossylens_task_scenes.vocabulary import COLORS, SHAPES

MAX_COUNT: Final = 6

_COUNT_WEIGHTS: Final[tuple[float, ...]] = (0.2, 0.3, 0.55, 1.2, 2.4, 3.6, 6.0)
"""How much each true count is preferred among those a scene offers, so that 0 to 6 come about
equally often over many scenes."""


class CountFact(NamedTuple):
    """How many of something there are; `size` is that of the smallest, in pixels."""

    noun: str
    number: int
    size: float


def _count_facts(scene: Scene) -> list[CountFact]:
    """What can be counted: every shape and colour."""
    facts = []
    for shape in SHAPES:
        sizes = [o.diameter for o in scene.objects if o.shape == shape]
        facts.append(CountFact(shape, len(sizes), min(sizes, default=0.0)))
    for color in COLORS:
        sizes = [o.diameter for o in scene.objects if o.color == color]
        facts.append(CountFact(f"{color} object", len(sizes), min(sizes, default=0.0)))
    return [fact for fact in facts if fact.number <= MAX_COUNT]


def drawn_counts(scene: Scene, rng: Rng, n: int) -> list[CountFact]:
    """Up to n things to count, drawn so that all numbers are about equally often right."""
    facts = _count_facts(scene)
    chosen: list[CountFact] = []
    while facts and len(chosen) < n:
        values = sorted({fact.number for fact in facts})
        weights = np.cumsum([_COUNT_WEIGHTS[v] for v in values])
        k = int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))
        fact = pick(rng, [fact for fact in facts if fact.number == values[k]])
        facts.remove(fact)
        chosen.append(fact)
    return chosen


def count_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n questions for a number, 0 to 6, as digits."""
    return [
        short_question("count", f"How many {plural(noun)} are in the image?", str(count), size)
        for noun, count, size in drawn_counts(scene, rng, n)
    ]


def count_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n questions of the form "Are there 3 stars in the image?"; 3 means exactly 3."""
    found = []
    facts = drawn_counts(scene, rng, n)
    for (noun, count, size), truth in zip(facts, balanced_truths(rng, len(facts)), strict=True):
        said = count
        if not truth:
            near = [v for v in range(MAX_COUNT + 1) if v != count and abs(v - count) <= 2]
            said = pick(rng, near)
        text = f"Are there {said} {plural(noun)} in the image?"
        if said == 1:
            text = f"Is there 1 {noun} in the image?"
        found.append(yes_no_question("count", text, truth, size))
    return found
