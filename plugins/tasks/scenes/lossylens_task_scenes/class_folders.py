"""Scenes as folders of classes: each picture has one object, and its shape is the class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from lossylens_task_scenes.render import render
from lossylens_task_scenes.rows import SceneSource
from lossylens_task_scenes.scene import Scene
from lossylens_task_scenes.tsv import ImageFormat, image_bytes
from lossylens_task_scenes.vocabulary import SHAPES


def of_class(scene: Scene, shape: str) -> Scene:
    """Return *scene* with nothing but its largest object, which has another *shape*."""
    largest = max(scene.objects, key=lambda thing: thing.radius)
    return replace(scene, objects=(replace(largest, shape=shape),), words=())


def write_classes(
    source: SceneSource,
    folder: Path,
    images: int,
    image_format: ImageFormat,
    on_image: Callable[[], None] | None,
) -> int:
    """Write a folder of pictures for each shape; return how many pictures there are."""
    suffix = "png" if image_format == "png" else "jpg"
    for number, (scene, shape) in enumerate(zip(source, cycle(SHAPES), strict=False)):
        if number == images:
            break
        file = folder / shape / f"{number:05d}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image_bytes(render(of_class(scene, shape)), image_format))
        if on_image is not None:
            on_image()
    return images
