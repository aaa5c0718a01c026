"""Scenes as rows of RefCOCO: an expression for one object, and its box."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Final

from lossylens_task_scenes.questions.scene_question import question_rng
from lossylens_task_scenes.rows import SceneSource
from lossylens_task_scenes.scene import Scene, SceneObject
from lossylens_task_scenes.tsv import Row

REFCOCO_COLUMNS: Final = ("index", "image", "question", "answer", "category", "width", "height")

REFCOCO_CATEGORIES: Final = (
    *("RefCOCO val", "RefCOCO testA", "RefCOCO testB"),
    *("RefCOCO+ val", "RefCOCO+ testA", "RefCOCO+ testB"),
    *("RefCOCOg val", "RefCOCOg test"),
)

_REQUEST = "Please provide the bounding box coordinate of the region this sentence describes: "

_SALT = 108

# Objects are called by the first of these that tells one from the others.
_NAMES: Final[tuple[Callable[[SceneObject], str], ...]] = (
    lambda thing: thing.shape,
    lambda thing: f"{thing.color} {thing.shape}",
    lambda thing: f"{thing.texture} {thing.color} {thing.shape}",
)


def expressions(scene: Scene) -> list[tuple[str, SceneObject]]:
    """Return what each object of a scene is called, as far as it can be told from the others.

    RefCOCO's words for places are not used: those of RefCOCO+ say what a thing looks like.
    """
    found = []
    for thing in scene.objects:
        for name in _NAMES:
            if sum(name(other) == name(thing) for other in scene.objects) == 1:
                found.append((name(thing), thing))
                break
    if not found:
        # All alike: the largest is larger than the others, though by little.
        largest = max(scene.objects, key=lambda thing: thing.radius)
        found.append((f"largest {largest.shape}", largest))
    return found


def refcoco_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """One expression for each scene, the splits in turn; every row holds its picture."""
    for index, (scene, category) in enumerate(zip(source, cycle(REFCOCO_CATEGORIES), strict=False)):
        if index == images:
            return
        named = expressions(scene)
        expression, thing = named[int(question_rng(scene, _SALT).integers(len(named)))]
        size = (scene.width, scene.height)
        sides = zip(thing.box, size * 2, strict=True)
        box = [round(min(max(side, 0.0), float(most)), 2) for side, most in sides]
        yield {
            "index": index,
            "image": scene,
            "question": f"{_REQUEST}<ref>the {expression}</ref>",
            "answer": str(box),
            "category": category,
            "width": scene.width,
            "height": scene.height,
        }
