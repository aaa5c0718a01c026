"""Scenes as rows of MMMU: questions about one to seven of them at a time."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Final

from lossylens_task_scenes.questions.choosing import choice_questions
from lossylens_task_scenes.questions.counting import count_questions
from lossylens_task_scenes.questions.scene_question import Rng, SceneQuestion, article, question_rng
from lossylens_task_scenes.rows import SceneSource
from lossylens_task_scenes.scene import Scene
from lossylens_task_scenes.tsv import Row

_SALT = 116

MOST: Final = 7
"""Most images of a question, as in MMMU."""

_LETTERS: Final = string.ascii_uppercase[:MOST]

MMMU_COLUMNS: Final = (
    "index", "question", *_LETTERS, "answer", "category", "l2-category", "split", "image",
)  # fmt: skip

MMMU_SUBJECTS: Final[dict[str, tuple[str, str]]] = {
    "color": ("Art & Design", "Art"),
    "shape": ("Art & Design", "Design"),
    "texture": ("Tech & Engineering", "Materials"),
    "position": ("Science", "Geography"),
    "word": ("Humanities & Social Science", "Literature"),
    "count": ("Science", "Math"),
    "existence": ("Tech & Engineering", "Computer_Science"),
}
"""Topic to discipline and subject."""


def _cells(
    text: str, options: tuple[str, ...], answer: str, topic: str, split: str
) -> dict[str, str]:
    category, subject = MMMU_SUBJECTS[topic]
    padded = (*options, *[""] * MOST)
    return {
        "question": text,
        **dict(zip(_LETTERS, padded, strict=False)),
        "answer": answer,
        "category": category,
        "l2-category": subject,
        "split": split,
    }


def _asked_of(question: SceneQuestion, number: int, images: int) -> str:
    """The question about image `number` of several, all of which precede it."""
    markers = " ".join(f"<image {k + 1}>" for k in range(images))
    which = f"In picture {number + 1}: " if images > 1 else ""
    return f"{markers} {which}{question.text}"


def _only_here(group: tuple[Scene, ...], rng: Rng) -> tuple[int, str] | None:
    """The number of a scene, and what is in it and in no other scene of the group."""
    present = [{(o.color, o.shape) for o in scene.objects} for scene in group]
    for number in rng.permutation(len(group)).tolist():
        others = set[tuple[str, str]]().union(*present[:number], *present[number + 1 :])
        own = sorted(present[number] - others)
        if own:
            return number, " ".join(own[int(rng.integers(len(own)))])
    return None


def _group_rows(group: tuple[Scene, ...], rng: Rng, split: str) -> Iterator[dict[str, str]]:
    number = int(rng.integers(len(group)))
    for question in choice_questions(group[number], rng, 1):
        text = _asked_of(question, number, len(group))
        yield _cells(text, question.options, question.answer, question.topic, split)
    number = int(rng.integers(len(group)))
    for question in count_questions(group[number], rng, 1):
        text = _asked_of(question, number, len(group))
        yield _cells(text, (), question.answer, "count", split)
    found = _only_here(group, rng) if len(group) > 1 else None
    if found is not None:
        number, noun = found
        options = tuple(f"<image {k + 1}>" for k in range(len(group)))
        text = f"Which picture shows {article(noun)}?"
        yield _cells(text, options, _LETTERS[number], "existence", split)


def mmmu_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Questions about 1, 2 ... 7, 1 ... scenes: with options, open, and with pictures as options.

    Every fifth group is of the split `dev`.
    """
    scenes = iter(source)
    index = number = 0
    while images:
        size = min(images, 1 + number % MOST)
        group = tuple(next(scenes) for _ in range(size))
        split = "dev" if number % 5 == 4 else "validation"
        rows = list(_group_rows(group, question_rng(group[0], _SALT), split))
        for k, row in enumerate(rows):
            yield {"index": index + k, "image": group if k == 0 else index, **row}
        index += len(rows)
        images -= size
        number += 1
