"""Descriptions of a whole scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from lossylens_task_scenes.questions.scene_question import Rng, SceneQuestion, article, plural
from lossylens_task_scenes.scene import Scene, SceneObject
from lossylens_task_scenes.vocabulary import BACKGROUND_PHRASES, NUMBER_WORDS

CAPTION_QUESTION: Final = (
    "Please describe this image in general. Directly provide the description,"
    ' do not include prefix like "This image depicts". '
)
"""The reference evaluator's prompt for captions; the blank at the end belongs to it."""


def _listed(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _groups(scene: Scene, key: Callable[[SceneObject], str], limit: int) -> list[str]:
    """Like objects counted together, from the largest to the smallest: "two red stars"."""
    order: dict[str, int] = {}
    for thing in sorted(scene.objects, key=lambda o: -o.diameter):
        order[key(thing)] = order.get(key(thing), 0) + 1
    return [
        article(noun) if count == 1 else f"{NUMBER_WORDS[count]} {plural(noun)}"
        for noun, count in list(order.items())[:limit]
    ]


def _words_phrase(scene: Scene) -> list[str]:
    texts = [word.text for word in sorted(scene.words, key=lambda w: (w.y, w.x))]
    if not texts:
        return []
    return [f"the word{'s' if len(texts) > 1 else ''} {' and '.join(texts)}"]


def captions(scene: Scene) -> tuple[str, ...]:
    """Five descriptions; the first is the canonical one, of at most four groups of objects."""
    ground = BACKGROUND_PHRASES[scene.background.kind]
    words = _words_phrase(scene)
    full = _listed(_groups(scene, lambda o: f"{o.color} {o.shape}", 4) + words)
    brief = _listed(_groups(scene, lambda o: f"{o.color} {o.shape}", 2) + words)
    shapes = _listed(_groups(scene, lambda o: o.shape, 4) + words)
    textured = _listed(_groups(scene, lambda o: f"{o.texture} {o.color} {o.shape}", 3) + words)
    largest = max(scene.objects, key=lambda o: o.diameter)
    main = article(f"{largest.size_name} {largest.color} {largest.shape}")
    return (
        f"{full} on {ground}",
        f"{brief} on {ground}",
        f"{shapes} on {ground}",
        f"{textured} on {ground}",
        _listed([main, *words]) + f" on {ground}",
    )


def caption_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """The one caption question (none for n = 0)."""
    texts = captions(scene)
    question = SceneQuestion(
        "caption", "caption", CAPTION_QUESTION, texts[0], references=texts, category="caption"
    )
    return [question][:n]
