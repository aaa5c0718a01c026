"""Training pictures of nano-clip: scenes, their captions, and what is centred in each patch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from lossylens_task_scenes.questions.captioning import captions
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import Scene, make_scene
from lossylens_task_scenes.vocabulary import COLORS, SHAPES, TEXTURES, WORDS
from lossylens_toolkit.clip.templates import TEMPLATES
from lossylens_vlm_nano.training.data import CROWD_SEED, TRAIN_SEED, crowded
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from lossylens_nano_clip.architecture import PATCH, SIDE

#: Names of the classes: every colour of every shape.
CLASSES = tuple(f"{color} {shape}" for shape in SHAPES for color in COLORS)

#: Letters and digits that words are made of.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

# Channels of a patch: classes, textures, letters, words.
_TEXTURES = len(CLASSES)
_LETTERS = _TEXTURES + len(TEXTURES)
_WORDS = _LETTERS + len(LETTERS)
CHANNELS = _WORDS + len(WORDS)


@dataclass(frozen=True)
class PictureBatch:
    """Pictures and what is known of them.

    Attributes:
        images: uint8 ``(B, 3, SIDE, SIDE)``.
        dense: what is centred in each patch, row by row: ``(B, patches, CHANNELS)``, 0 or 1.
        classes: that of the largest object, ``(B,)``.
        captions: one text for each picture, or ``""`` where the picture is crowded.
    """

    images: Tensor
    dense: Tensor
    classes: Tensor
    captions: list[str]


def largest_class(scene: Scene) -> int:
    """Return the number in :data:`CLASSES` of the largest object of *scene*."""
    largest = max(scene.objects, key=lambda each: each.diameter)
    return SHAPES.index(largest.shape) * len(COLORS) + COLORS.index(largest.color)


def clip_picture(scene: Scene) -> Tensor:
    """Return the scene as CLIP's preprocessing scales it: uint8 ``(3, SIDE, SIDE)``."""
    scaled = render(scene).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(scaled).copy()).permute(2, 0, 1)


def patch_targets(scene: Scene) -> Tensor:
    """Return what is centred in each patch: ``(patches, CHANNELS)``, 0 or 1, row by row."""
    across = SIDE // PATCH
    cell = scene.width / across
    target = np.zeros((across, across, CHANNELS), dtype=np.uint8)

    def at(x: float, y: float) -> tuple[int, int]:
        row, column = (min(max(int(each // cell), 0), across - 1) for each in (y, x))
        return row, column

    for thing in scene.objects:
        place = at(thing.x, thing.y)
        kind = SHAPES.index(thing.shape) * len(COLORS) + COLORS.index(thing.color)
        target[(*place, kind)] = 1
        target[(*place, _TEXTURES + TEXTURES.index(thing.texture))] = 1
    for word in scene.words:
        left, top, right, bottom = word.ink_box
        width = (right - left) / max(len(word.text), 1)
        for number, letter in enumerate(word.text):
            place = at(left + (number + 0.5) * width, (top + bottom) / 2)
            if letter in LETTERS:
                target[(*place, _LETTERS + LETTERS.index(letter))] = 1
            if word.text in WORDS:
                target[(*place, _WORDS + WORDS.index(word.text))] = 1
    return torch.from_numpy(target.reshape(-1, CHANNELS))


def training_texts(scenes: int) -> Iterator[str]:
    """Yield captions of training scenes and class names in templates, for the tokenizer."""
    for index in range(scenes):
        yield from captions(make_scene(TRAIN_SEED, index))
    for number, name in enumerate(CLASSES):
        yield from (TEMPLATES[(number + k) % len(TEMPLATES)].replace("{}", name) for k in range(20))


class CaptionedScenes(IterableDataset[PictureBatch]):
    """An endless stream of batches; every other picture is crowded and has no caption."""

    def __init__(self, batch: int, start: int) -> None:
        self.batch = batch
        self.start = start

    def __iter__(self) -> Iterator[PictureBatch]:
        for first in itertools.count(self.start, self.batch):
            yield self._batch(range(first, first + self.batch))

    def _batch(self, indices: range) -> PictureBatch:
        rng = np.random.default_rng([TRAIN_SEED, indices.start, 3])
        scenes, texts = [], []
        for index in indices:
            scene, text = make_scene(TRAIN_SEED, index), ""
            if index % 2:
                others = (make_scene(CROWD_SEED, 4 * index + number) for number in range(4))
                scene = crowded(scene, others)
            else:
                found = captions(scene)
                text = found[int(rng.integers(len(found)))]
            scenes.append(scene)
            texts.append(text)
        return PictureBatch(
            torch.stack([clip_picture(scene) for scene in scenes]),
            torch.stack([patch_targets(scene) for scene in scenes]),
            torch.tensor([largest_class(scene) for scene in scenes]),
            texts,
        )
