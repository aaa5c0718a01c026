"""Where things are, and which is larger."""

from __future__ import annotations

from typing import Final, NamedTuple

from lossylens_task_scenes.questions.scene_question import (
    Rng,
    SceneQuestion,
    balanced_truths,
    named_objects,
    pick,
    short_question,
    shuffled,
    yes_no_question,
)
from lossylens_task_scenes.scene import Scene
from lossylens_task_scenes.vocabulary import POSITIONS


def cell_of(scene: Scene, x: float, y: float, margin: float = 0.05) -> str | None:
    """Name of the 3x3 cell that holds a point; None within `margin` (of the side) of a border."""
    column, row = 3 * x / scene.width, 3 * y / scene.height
    for value in (column, row):
        if min(abs(value - 1), abs(value - 2)) < 3 * margin:
            return None
    return POSITIONS[min(2, int(row))][min(2, int(column))]


class _Thing(NamedTuple):
    """Something with a name of its own: its centre and size in pixels."""

    x: float
    y: float
    size: float
    name: str


def _things(scene: Scene, rng: Rng) -> list[_Thing]:
    """Everything that has a unique name, in random order."""
    things = [_Thing(o.x, o.y, o.diameter, name) for o, name in named_objects(scene, rng)]
    words = [word for word in scene.words if word.kind == "word"]
    things += [_Thing(word.x, word.y, word.height, f"word {word.text}") for word in words]
    return shuffled(rng, things)


def position_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions for the cell of a 3x3 grid; things near a border are not asked about."""
    found: list[SceneQuestion] = []
    for x, y, size, name in _things(scene, rng):
        cell = cell_of(scene, x, y)
        if cell is not None and len(found) < n:
            text = f"Where is the {name} in the image?"
            found.append(short_question("position", text, cell, size))
    return found


def half_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions for the half of the image that holds something."""
    found: list[SceneQuestion] = []
    truths = balanced_truths(rng, n)
    for x, y, size, name in _things(scene, rng):
        sides = []
        if abs(x / scene.width - 0.5) > 0.08:
            sides.append(("left", "right") if x < scene.width / 2 else ("right", "left"))
        if abs(y / scene.height - 0.5) > 0.08:
            sides.append(("top", "bottom") if y < scene.height / 2 else ("bottom", "top"))
        if not sides or len(found) >= n:
            continue
        truth = truths[len(found)]
        side = pick(rng, sides)[0 if truth else 1]
        text = f"Is the {name} in the {side} half of the image?"
        found.append(yes_no_question("position", text, truth, size, "half"))
    return found


RELATION_MARGIN: Final = 0.12
"""Least distance along the asked axis, in sides of the image."""


def relation_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions for left of, right of, above, below, between two objects."""
    referents = named_objects(scene, rng)
    pairs = [(a, b) for a in referents for b in referents if a[0] is not b[0]]
    found: list[SceneQuestion] = []
    truths = balanced_truths(rng, n)
    for (a, name_a), (b, name_b) in shuffled(rng, pairs):
        dx, dy = (b.x - a.x) / scene.width, (b.y - a.y) / scene.height
        relations = []
        if abs(dx) > RELATION_MARGIN:
            relations.append(
                ("to the left of", "to the right of") if dx > 0
                else ("to the right of", "to the left of")
            )  # fmt: skip
        if abs(dy) > RELATION_MARGIN:
            relations.append(("above", "below") if dy > 0 else ("below", "above"))
        if not relations or len(found) >= n:
            continue
        truth = truths[len(found)]
        relation = pick(rng, relations)[0 if truth else 1]
        text = f"Is the {name_a} {relation} the {name_b}?"
        found.append(yes_no_question("relation", text, truth, min(a.diameter, b.diameter)))
    return found


def size_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions whether one object is larger (by a third at least) than another."""
    referents = named_objects(scene, rng)
    pairs = [(a, b) for a in referents for b in referents if a[0].diameter > 1.33 * b[0].diameter]
    found = []
    truths = balanced_truths(rng, n)
    for pair, truth in zip(shuffled(rng, pairs), truths, strict=False):
        (_, name_a), (b, name_b) = pair
        first, second = (name_a, name_b) if truth else (name_b, name_a)
        text = f"Is the {first} larger than the {second}?"
        found.append(yes_no_question("size", text, truth, b.diameter))
    return found
