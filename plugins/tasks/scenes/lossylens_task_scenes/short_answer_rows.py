"""Scenes and charts as rows of TextVQA, VQAv2, DocVQA, InfoVQA and ChartQA.

The pictures of DocVQA and InfoVQA are scenes that hold what their questions are about, words on
plates, and words and numbers of things; they are no documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

import numpy as np

from lossylens_task_scenes.charts import Chart, make_chart
from lossylens_task_scenes.questions.attributes import (
    color_questions,
    shape_questions,
    texture_questions,
)
from lossylens_task_scenes.questions.counting import count_questions
from lossylens_task_scenes.questions.existence import existence_questions
from lossylens_task_scenes.questions.placing import position_questions, relation_questions
from lossylens_task_scenes.questions.reading import word_questions
from lossylens_task_scenes.questions.scene_question import (
    Rng,
    SceneQuestion,
    as_short_answer,
    question_rng,
)
from lossylens_task_scenes.questions.scene_wide import both_questions
from lossylens_task_scenes.rows import SceneSource, shared_rows
from lossylens_task_scenes.scene import Scene
from lossylens_task_scenes.tsv import Row

_SALTS: Final = {"textvqa": 111, "vqav2": 112, "docvqa": 113, "infovqa": 114, "chartqa": 115}

SceneRows = Callable[[Scene, Rng], list[dict[str, str]]]


def _rows(source: SceneSource, images: int, salt: int, ask: SceneRows) -> Iterator[Row]:
    """The rows of `images` scenes, those that nothing is asked about left out."""
    scenes = iter(source)
    index = 0
    while images:
        scene = next(scenes)
        rows = ask(scene, question_rng(scene, salt))
        yield from shared_rows(rows, scene, index)
        index += len(rows)
        images -= bool(rows)


def _ten(answer: str) -> str:
    """The answers of ten people who agree."""
    return repr([answer] * 10)


# --- TextVQA ----------------------------------------------------------------------------------

TEXTVQA_COLUMNS: Final = ("index", "image", "question", "answer")


def _about_words(scene: Scene, rng: Rng) -> list[SceneQuestion]:
    """What the words are, and where; the latter for words that a question can name."""
    placed = position_questions(scene, rng, len(scene.objects) + len(scene.words))
    return word_questions(scene, rng, 2) + [q for q in placed if "the word " in q.text]


def _textvqa_scene(scene: Scene, rng: Rng) -> list[dict[str, str]]:
    return [{"question": q.text, "answer": _ten(q.answer)} for q in _about_words(scene, rng)]


def textvqa_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """The words of a scene: what they are, and where."""
    yield from _rows(source, images, _SALTS["textvqa"], _textvqa_scene)


# --- VQAv2 ------------------------------------------------------------------------------------

VQAV2_COLUMNS: Final = ("index", "image", "question", "answer", "category", "question_type")

VQAV2_CATEGORIES: Final = ("yes/no", "number", "other")


def _vqav2_scene(scene: Scene, rng: Rng) -> list[dict[str, str]]:
    asked: list[tuple[str, SceneQuestion]] = []
    for yes_no in (existence_questions, relation_questions, both_questions):
        asked += [("yes/no", as_short_answer(q)) for q in yes_no(scene, rng, 1)]
    asked += [("number", q) for q in count_questions(scene, rng, 1)]
    for other in (color_questions, shape_questions, texture_questions, position_questions):
        asked += [("other", q) for q in other(scene, rng, 1)]
    return [
        {
            "question": q.text,
            "answer": _ten(q.answer),
            "category": category,
            "question_type": " ".join(q.text.split()[:2]).lower(),
        }
        for category, q in asked
    ]


def vqav2_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Yes or no, a number, and other words."""
    yield from _rows(source, images, _SALTS["vqav2"], _vqav2_scene)


# --- DocVQA and InfoVQA -----------------------------------------------------------------------

DOCVQA_COLUMNS: Final = ("index", "image", "question", "answer", "split")


def _listed(questions: list[SceneQuestion]) -> list[dict[str, str]]:
    return [{"question": q.text, "answer": repr([q.answer]), "split": "val"} for q in questions]


def _docvqa_scene(scene: Scene, rng: Rng) -> list[dict[str, str]]:
    if any(word.plate is None for word in scene.words):
        return []
    return _listed(_about_words(scene, rng))


def docvqa_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """What words are and where, in scenes whose words all stand on plates."""
    yield from _rows(source, images, _SALTS["docvqa"], _docvqa_scene)


def _infovqa_scene(scene: Scene, rng: Rng) -> list[dict[str, str]]:
    words = word_questions(scene, rng, 1)
    return _listed(words + count_questions(scene, rng, 1)) if words else []


def infovqa_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Words to be read and things to be counted."""
    yield from _rows(source, images, _SALTS["infovqa"], _infovqa_scene)


# --- ChartQA ----------------------------------------------------------------------------------

CHARTQA_COLUMNS: Final = ("index", "image", "question", "answer", "split")

CHARTQA_SPLITS: Final = ("test_human", "test_augmented")


def _chartqa_chart(chart: Chart, rng: Rng) -> list[dict[str, str]]:
    """What stands beside a bar is augmented; what takes several bars is human."""
    one, other = rng.permutation(len(chart.names))[:2].tolist()
    a, b = chart.names[one], chart.names[other]
    highest = chart.names[int(np.argmax(chart.values))]
    total = chart.values[one] + chart.values[other]
    asked = [
        ("test_augmented", f"What is the value of {a}?", str(chart.values[one])),
        ("test_augmented", f"What color is the bar of {b}?", chart.colors[other]),
        ("test_human", "Which bar is the highest?", highest),
        ("test_human", f"What is the sum of {a} and {b}?", str(total)),
    ]
    return [{"question": text, "answer": answer, "split": split} for split, text, answer in asked]


def chartqa_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Bar charts instead of scenes, four questions about each."""
    index = 0
    for number, _ in zip(count(), range(images), strict=False):
        chart = make_chart(source.seed, number, source.size)
        seed = np.random.SeedSequence([source.seed, number, 1, _SALTS["chartqa"]])
        rows = _chartqa_chart(chart, np.random.Generator(np.random.PCG64(seed)))
        for k, row in enumerate(rows):
            yield {"index": index + k, "image": chart if k == 0 else index, **row}
        index += len(rows)
