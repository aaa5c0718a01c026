"""Colour, shape and texture of an object."""

from __future__ import annotations

from typing import Final, NamedTuple

from lossylens_task_scenes.questions.scene_question import (
    Rng,
    SceneQuestion,
    article,
    balanced_truths,
    named_objects,
    pick,
    short_question,
    shuffled,
    yes_no_question,
)
from lossylens_task_scenes.scene import Scene, SceneObject
from lossylens_task_scenes.vocabulary import COLORS, SHAPES, TEXTURES

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "color": COLORS,
    "shape": SHAPES,
    "texture": TEXTURES,
}
"""What each attribute can be."""


class AttributeFact(NamedTuple):
    """One attribute of an object.

    `name` means the object alone without naming the attribute, `text` asks for the attribute,
    and `value` answers.
    """

    thing: SceneObject
    name: str
    text: str
    value: str


def attribute_facts(scene: Scene, rng: Rng, attribute: str) -> list[AttributeFact]:
    """What can be asked about the objects of a scene, in random order."""
    facts = []
    for thing, name in named_objects(scene, rng, attribute):
        if attribute == "color":
            text = f"What color is the {name}?"
        elif attribute == "shape":
            text = f"What shape is the {name}?"
        else:
            if thing.size_name == "tiny":
                # Tiny objects are always plain and show no texture: nothing to see.
                continue
            text = f"What texture is the {name}?"
        facts.append(AttributeFact(thing, name, text, str(getattr(thing, attribute))))
    return facts


def _attribute_questions(scene: Scene, rng: Rng, n: int, attribute: str) -> list[SceneQuestion]:
    return [
        short_question(attribute, fact.text, fact.value, fact.thing.diameter)
        for fact in attribute_facts(scene, rng, attribute)[:n]
    ]


def color_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions for the colour of an object."""
    return _attribute_questions(scene, rng, n, "color")


def shape_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions for the shape of an object."""
    return _attribute_questions(scene, rng, n, "shape")


def texture_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions for the texture of an object."""
    return _attribute_questions(scene, rng, n, "texture")


def attribute_yes_no(scene: Scene, rng: Rng, n: int, attribute: str) -> list[SceneQuestion]:
    """Up to n yes/no questions for a colour, shape or texture ("Is the star red?")."""
    facts = attribute_facts(scene, rng, attribute)[:n]
    found = []
    for fact, truth in zip(facts, balanced_truths(rng, len(facts)), strict=True):
        said = fact.value
        if not truth:
            said = pick(rng, [v for v in VALUES[attribute] if v != fact.value])
        noun = article(said) if attribute == "shape" else said
        text = f"Is the {fact.name} {noun}?"
        found.append(yes_no_question(attribute, text, truth, fact.thing.diameter))
    return found


def either_or_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions that offer two values ("Is the star red or blue?"); short answer."""
    found: list[SceneQuestion] = []
    for attribute in shuffled(rng, tuple(VALUES)):
        for fact in attribute_facts(scene, rng, attribute)[:2]:
            wrong = pick(rng, [v for v in VALUES[attribute] if v != fact.value])
            first, second = shuffled(rng, (fact.value, wrong))
            if attribute == "shape":
                first, second = article(first), article(second)
            text = f"Is the {fact.name} {first} or {second}?"
            size = fact.thing.diameter
            found.append(short_question(attribute, text, fact.value, size, "either or"))
    return shuffled(rng, found)[:n]


def color_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions for a colour."""
    return attribute_yes_no(scene, rng, n, "color")


def shape_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions for a shape."""
    return attribute_yes_no(scene, rng, n, "shape")


def texture_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions for a texture."""
    return attribute_yes_no(scene, rng, n, "texture")
