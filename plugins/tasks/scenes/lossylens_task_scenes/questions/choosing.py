"""Questions with options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lossylens_task_scenes.questions.attributes import VALUES, attribute_facts
from lossylens_task_scenes.questions.counting import MAX_COUNT, drawn_counts
from lossylens_task_scenes.questions.placing import position_questions
from lossylens_task_scenes.questions.reading import confusables, word_facts
from lossylens_task_scenes.questions.scene_question import (
    LETTERS,
    Rng,
    SceneQuestion,
    plural,
    shuffled,
)
from lossylens_task_scenes.scene import Scene
from lossylens_task_scenes.vocabulary import POSITIONS


class _Choice(NamedTuple):
    """A question before its options are drawn.

    `wrong` are the texts of the other options, the most tempting first, and `size` that of what
    is asked about, in pixels.
    """

    text: str
    right: str
    wrong: list[str]
    size: float


def _choice_question(rng: Rng, topic: str, choice: _Choice, options: int) -> SceneQuestion:
    texts = shuffled(rng, [choice.right, *choice.wrong[: options - 1]])
    return SceneQuestion(
        kind="multiple_choice",
        topic=topic,
        text=choice.text,
        answer=LETTERS[texts.index(choice.right)],
        options=tuple(texts),
        category=topic,
        subject_size=choice.size,
    )


def choice_questions(
    scene: Scene, rng: Rng, n: int, topics: Sequence[str] = (), options: int | None = None
) -> list[SceneQuestion]:
    """Up to n multiple-choice questions of different topics where possible.

    `topics` restricts to some of color, shape, texture, count, position, word.  `options` is their
    number, 2 to 4; without it mostly 4 and sometimes 2 or 3.
    """
    makers: dict[str, Callable[[], list[_Choice]]] = {
        "color": lambda: _attribute_choices(scene, rng, "color"),
        "shape": lambda: _attribute_choices(scene, rng, "shape"),
        "texture": lambda: _attribute_choices(scene, rng, "texture"),
        "count": lambda: _count_choices(scene, rng),
        "position": lambda: [
            _Choice(q.text, q.answer, shuffled(rng, _other_cells(q.answer)), q.subject_size)
            for q in position_questions(scene, rng, n)
        ],
        "word": lambda: [
            _Choice(text, word.text, confusables(scene, word, rng, 3), word.height)
            for word, text in word_facts(scene, rng)
        ],
    }
    wanted = shuffled(rng, topics or tuple(makers))
    pools = {topic: makers[topic]() for topic in wanted}
    found: list[SceneQuestion] = []
    while any(pools.values()) and len(found) < n:
        for topic in wanted:
            if pools[topic] and len(found) < n:
                choice = pools[topic].pop()
                number = options or (4 if rng.random() < 0.85 else int(rng.integers(2, 4)))
                found.append(_choice_question(rng, topic, choice, number))
    return found


def _attribute_choices(scene: Scene, rng: Rng, attribute: str) -> list[_Choice]:
    return [
        _Choice(
            fact.text,
            fact.value,
            shuffled(rng, [v for v in VALUES[attribute] if v != fact.value]),
            fact.thing.diameter,
        )
        for fact in attribute_facts(scene, rng, attribute)[:2]
    ]


def _count_choices(scene: Scene, rng: Rng) -> list[_Choice]:
    found = []
    for noun, count, size in drawn_counts(scene, rng, 2):
        near = sorted(
            (v for v in range(MAX_COUNT + 1) if v != count),
            key=lambda v: abs(v - count) + 2 * float(rng.random()),
        )
        text = f"How many {plural(noun)} are in the image?"
        found.append(_Choice(text, str(count), [str(v) for v in near[:3]], size))
    return found


def _other_cells(right: str) -> list[str]:
    return [cell for row in POSITIONS for cell in row if cell != right]
