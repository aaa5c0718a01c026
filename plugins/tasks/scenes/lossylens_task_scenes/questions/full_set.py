"""A balanced set of questions of every topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lossylens_task_scenes.questions.attributes import (
    color_questions,
    color_yes_no,
    either_or_questions,
    shape_questions,
    shape_yes_no,
    texture_questions,
    texture_yes_no,
)
from lossylens_task_scenes.questions.captioning import caption_questions
from lossylens_task_scenes.questions.choosing import choice_questions
from lossylens_task_scenes.questions.counting import count_questions, count_yes_no
from lossylens_task_scenes.questions.existence import existence_questions
from lossylens_task_scenes.questions.placing import (
    half_questions,
    position_questions,
    relation_questions,
    size_questions,
)
from lossylens_task_scenes.questions.reading import (
    first_letter_questions,
    word_questions,
    word_yes_no,
)
from lossylens_task_scenes.questions.scene_question import (
    TOPICS,
    Asker,
    Rng,
    SceneQuestion,
    as_short_answer,
    question_rng,
    shuffled,
)
from lossylens_task_scenes.questions.scene_wide import (
    background_questions,
    both_questions,
    more_questions,
)
from lossylens_task_scenes.scene import Scene


def verify_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n yes/no questions of mixed topics in the form of short answers."""
    askers = shuffled(
        rng,
        (existence_questions, color_yes_no, shape_yes_no, relation_questions, both_questions),
    )
    found = [q for asker in askers for q in asker(scene, rng, 1)]
    return [as_short_answer(question) for question in found[:n]]


_FULL_SET: Final[tuple[tuple[Asker, int], ...]] = (
    (existence_questions, 4),
    (color_questions, 1),
    (color_yes_no, 1),
    (shape_questions, 1),
    (shape_yes_no, 1),
    (texture_questions, 1),
    (texture_yes_no, 1),
    (count_questions, 2),
    (count_yes_no, 1),
    (position_questions, 1),
    (half_questions, 1),
    (relation_questions, 2),
    (size_questions, 1),
    (word_questions, 1),
    (word_yes_no, 1),
    (first_letter_questions, 1),
    (background_questions, 1),
    (more_questions, 1),
    (both_questions, 1),
    (choice_questions, 3),
    (caption_questions, 1),
    (either_or_questions, 1),
    (verify_questions, 1),
)


def ask(
    scene: Scene, rng: Rng | int = 0, topics: Sequence[str] | None = None
) -> list[SceneQuestion]:
    """A balanced set of about 24 questions on one scene, of the given topics or of all.

    `rng` is a generator or a number; the same scene and number give the same questions.
    """
    if topics is not None:
        unknown = [topic for topic in topics if topic not in TOPICS]
        if unknown:
            raise ValueError(f"unknown topic {unknown[0]!r}; known: {', '.join(TOPICS)}")
    generator = question_rng(scene, rng) if isinstance(rng, int) else rng
    questions = [q for asker, n in _FULL_SET for q in asker(scene, generator, n)]
    if topics is None:
        return questions
    return [q for q in questions if q.topic in topics]
