"""What a question about a scene is, and how questions are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import numpy as np
from lossylens.vlm import Question, QuestionKind

from lossylens_task_scenes.scene import Scene, SceneObject
from lossylens_task_scenes.vocabulary import PLURALS

Kind = Literal["yes_no", "multiple_choice", "short_answer", "open", "caption"]

YES_NO_SUFFIX: Final = " Please answer yes or no."

LETTERS: Final = "ABCD"

TOPICS: Final[tuple[str, ...]] = (
    "existence",
    "color",
    "shape",
    "texture",
    "count",
    "position",
    "relation",
    "size",
    "word",
    "background",
    "logic",
    "caption",
)


@dataclass(frozen=True)
class SceneQuestion:
    """One question with its truth.

    `options` are the texts of a multiple choice, whose letters A, B, ... are implied; `answer` is
    then the letter.  `references` are the accepted answers, or five captions.  `category` refines
    the topic.  `subject_size` is the size in pixels of what is asked about: the diameter of the
    (smaller) object or the height of the letters, 0 when nothing in particular is.
    """

    kind: Kind
    topic: str
    text: str
    answer: str
    options: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    category: str = ""
    subject_size: float = 0.0

    def __post_init__(self) -> None:
        if not self.references:
            object.__setattr__(self, "references", (self.answer,))

    def structured(self) -> Question:
        """The question as VLMs get it, without its truth."""
        return Question(
            kind=QuestionKind(self.kind),
            text=self.text,
            task="scenes",
            options=dict(zip(LETTERS, self.options, strict=False)),
        )


Rng = np.random.Generator
T = TypeVar("T")
Asker = Callable[[Scene, Rng, int], list[SceneQuestion]]


def article(noun: str) -> str:
    """The noun phrase with "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def pick(rng: Rng, items: Sequence[T]) -> T:
    """One of the items, drawn."""
    return items[int(rng.integers(len(items)))]


def shuffled(rng: Rng, items: Iterable[T]) -> list[T]:
    """The items in random order."""
    pool = list(items)
    return [pool[k] for k in rng.permutation(len(pool)).tolist()]


def yes_no_question(
    topic: str, text: str, truth: bool, size: float = 0.0, category: str = ""
) -> SceneQuestion:
    """A question to be answered by Yes or No; the category is the topic unless it is given."""
    return SceneQuestion(
        kind="yes_no",
        topic=topic,
        text=text + YES_NO_SUFFIX,
        answer="Yes" if truth else "No",
        category=category or topic,
        subject_size=size,
    )


def short_question(
    topic: str, text: str, answer: str, size: float, category: str = ""
) -> SceneQuestion:
    """A question to be answered by a word or two; the category is the topic unless given."""
    return SceneQuestion(
        "short_answer", topic, text, answer, category=category or topic, subject_size=size
    )


def balanced_truths(rng: Rng, n: int) -> list[bool]:
    """n truth values, half of them True; which comes first, and the odd one, are drawn."""
    first = bool(rng.random() < 0.5)
    return [first ^ bool(k % 2) for k in range(n)]


def named_objects(scene: Scene, rng: Rng, avoid: str = "") -> list[tuple[SceneObject, str]]:
    """Objects in random order, each with one phrase that means it alone.

    The phrase does not name the attribute `avoid`, which is the one asked for.
    """
    shapes = Counter(o.shape for o in scene.objects)
    colors = Counter(o.color for o in scene.objects)
    pairs = Counter((o.shape, o.color) for o in scene.objects)
    found = []
    for thing in shuffled(rng, scene.objects):
        names = []
        if avoid != "shape" and shapes[thing.shape] == 1:
            names.append(thing.shape)
        if avoid != "color" and colors[thing.color] == 1:
            names.append(f"{thing.color} object")
        if avoid not in ("shape", "color") and pairs[thing.shape, thing.color] == 1:
            names.append(f"{thing.color} {thing.shape}")
        if names:
            found.append((thing, pick(rng, names)))
    return found


def plural(noun: str) -> str:
    """The noun phrase in the plural."""
    *before, last = noun.split(" ")
    return " ".join([*before, PLURALS[last]])


def as_short_answer(question: SceneQuestion) -> SceneQuestion:
    """A yes/no question without its suffix, to be answered by "yes" or "no" in lower case."""
    return replace(
        question,
        kind="short_answer",
        text=question.text.removesuffix(YES_NO_SUFFIX),
        answer=question.answer.lower(),
        references=(question.answer.lower(),),
    )


def question_rng(scene: Scene, salt: int = 0) -> Rng:
    """The generator of a scene's questions, independent of the one that made the scene."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([scene.seed, scene.index, 1, salt]))
    )
