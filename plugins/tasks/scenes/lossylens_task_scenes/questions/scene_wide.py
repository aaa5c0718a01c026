"""The background, and statements about several objects."""

from __future__ import annotations

from collections import Counter

from lossylens_task_scenes.questions.existence import absent_pair
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
from lossylens_task_scenes.vocabulary import BACKGROUND_KINDS, BACKGROUND_PHRASES, PLURALS, SHAPES


def background_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n yes/no questions for the kind of background."""
    found = []
    for truth in balanced_truths(rng, n):
        kind = scene.background.kind
        if not truth:
            # Photographs are the commonest, so they are also the commonest wrong kind.
            others = [k for k in BACKGROUND_KINDS if k != kind]
            if "photograph" in others and rng.random() < 0.9:
                kind = "photograph"
            else:
                kind = pick(rng, others)
        text = f"Is the background {BACKGROUND_PHRASES[kind]}?"
        found.append(yes_no_question("background", text, truth))
    return found


def more_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions whether there are more of one shape than of another."""
    counts = Counter(o.shape for o in scene.objects)
    pairs = [(a, b) for a in SHAPES for b in SHAPES if counts[a] > counts[b]]
    # Two shapes that are both there make the better question.
    pairs.sort(key=lambda pair: counts[pair[1]] == 0)
    both = [pair for pair in pairs if counts[pair[1]]]
    found = []
    ordered = shuffled(rng, both) + shuffled(rng, pairs[len(both) :])
    for pair, truth in zip(ordered, balanced_truths(rng, n), strict=False):
        more, fewer = pair if truth else pair[::-1]
        text = f"Are there more {PLURALS[more]} than {PLURALS[fewer]} in the image?"
        found.append(yes_no_question("logic", text, truth, category="more"))
    return found


def both_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions "Is there a red star and a blue circle in the image?"."""
    present = sorted({(o.shape, o.color) for o in scene.objects})
    if len(present) < 2:
        return []
    found = []
    for truth in balanced_truths(rng, n):
        first, second = shuffled(rng, present)[:2]
        if not truth:
            second = absent_pair(scene, rng, "adversarial")
            if rng.random() < 0.5:
                first, second = second, first
        nouns = [article(f"{color} {shape}") for shape, color in (first, second)]
        text = f"Is there {nouns[0]} and {nouns[1]} in the image?"
        found.append(yes_no_question("logic", text, truth, category="both"))
    return found
