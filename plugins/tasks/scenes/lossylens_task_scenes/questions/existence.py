"""Is there such an object?"""

from __future__ import annotations

from typing import Final

from lossylens_task_scenes.questions.scene_question import (
    Rng,
    SceneQuestion,
    article,
    balanced_truths,
    pick,
    shuffled,
    yes_no_question,
)
from lossylens_task_scenes.scene import Scene
from lossylens_task_scenes.vocabulary import COLORS, POPULAR, SHAPES

ALL_SPLITS: Final = "random,popular,adversarial"


def absent_pairs(scene: Scene, how: str) -> list[tuple[str, str]]:
    """Shape and colour pairs that no object has; `how` is random, popular or adversarial."""
    present = {(o.shape, o.color) for o in scene.objects}
    shapes, colors = {s for s, _ in present}, {c for _, c in present}
    absent = [(s, c) for s in SHAPES for c in COLORS if (s, c) not in present]
    if how == "popular":
        pool = [pair for pair in absent if POPULAR[pair[0]] == pair[1]]
    elif how == "adversarial":
        # Both attributes are there, on different objects; failing that, one of them.
        pool = [pair for pair in absent if pair[0] in shapes and pair[1] in colors]
        pool = pool or [pair for pair in absent if pair[0] in shapes or pair[1] in colors]
    else:
        pool = absent
    return pool or absent


def absent_pair(scene: Scene, rng: Rng, how: str) -> tuple[str, str]:
    """One of :func:`absent_pairs`, drawn."""
    return pick(rng, absent_pairs(scene, how))


def existence_question(scene: Scene, rng: Rng, truth: bool, how: str = "random") -> SceneQuestion:
    """Is there such an object?  `how` chooses the negative: random, popular or adversarial.

    A positive belongs to all three splits.  One random question of three names a shape alone.
    """
    if truth:
        thing = pick(rng, scene.objects)
        noun = f"{thing.color} {thing.shape}"
        alike = [o for o in scene.objects if (o.shape, o.color) == (thing.shape, thing.color)]
        if rng.random() < 0.25:
            noun = thing.shape
            alike = [o for o in scene.objects if o.shape == thing.shape]
        size = max(o.diameter for o in alike)
        category = ALL_SPLITS
    else:
        shape, color = absent_pair(scene, rng, how)
        noun, size, category = f"{color} {shape}", 0.0, how
        missing = [s for s in SHAPES if s not in {o.shape for o in scene.objects}]
        if how == "random" and missing and rng.random() < 0.6:
            noun = pick(rng, missing)
    text = f"Is there {article(noun)} in the image?"
    return yes_no_question("existence", text, truth, size, category)


def existence_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n questions, half of them with the answer Yes, negatives of the three kinds in turn."""
    kinds = shuffled(rng, ("random", "popular", "adversarial"))
    found: dict[str, SceneQuestion] = {}
    for k, truth in enumerate(balanced_truths(rng, n)):
        question = existence_question(scene, rng, truth, kinds[(k // 2) % 3])
        for _ in range(8):
            if question.text not in found:
                break
            question = existence_question(scene, rng, truth, kinds[(k // 2) % 3])
        found.setdefault(question.text, question)
    return list(found.values())
