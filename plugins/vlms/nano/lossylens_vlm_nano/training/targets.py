"""Dense targets that teach the vision encoder where things are.

A language-model loss alone teaches a vision encoder slowly.  During training a
linear head predicts, for each merged cell of 28x28 pixels, what is centred in
it.  The head is thrown away afterwards.
"""

from __future__ import annotations

import numpy as np
from lossylens_task_scenes.scene import Scene, Word
from lossylens_task_scenes.vocabulary import COLORS, SHAPES, SIZES, TEXTURES, WORDS
from numpy.typing import NDArray

from lossylens_vlm_nano.architecture import MERGE, PATCH

CELL = PATCH * MERGE
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

# Channels: shape x colour pairs, textures, sizes, letters, words, their first cell.
_PAIRS = 0
_TEXTURES = _PAIRS + len(SHAPES) * len(COLORS)
_SIZES = _TEXTURES + len(TEXTURES)
_LETTERS = _SIZES + len(SIZES)
_WORDS = _LETTERS + len(LETTERS)
CHANNELS = _WORDS + len(WORDS)


def channels(group: str) -> slice:
    """Return the channels of ``"pairs"``, ``"textures"`` or ``"letters"``.

    Pairs are shape by shape, all colours of each.
    """
    first, end = {
        "pairs": (_PAIRS, _TEXTURES),
        "textures": (_TEXTURES, _SIZES),
        "letters": (_LETTERS, _WORDS),
    }[group]
    return slice(first, end)


def _cell(x: float, y: float, cells: int) -> tuple[int, int]:
    column = min(max(int(x // CELL), 0), cells - 1)
    row = min(max(int(y // CELL), 0), cells - 1)
    return row, column


def _mark_word(target: NDArray[np.uint8], word: Word, cells: int) -> None:
    left, top, right, bottom = word.ink_box
    width = (right - left) / max(len(word.text), 1)
    middle = (top + bottom) / 2
    for number, letter in enumerate(word.text):
        row, column = _cell(left + (number + 0.5) * width, middle, cells)
        if letter in LETTERS:
            target[row, column, _LETTERS + LETTERS.index(letter)] = 1
        if word.text in WORDS:
            target[row, column, _WORDS + WORDS.index(word.text)] = 1


def dense_targets(scene: Scene) -> NDArray[np.uint8]:
    """Return (cells * cells, CHANNELS), 0 or 1, for a square scene."""
    cells = scene.width // CELL
    target = np.zeros((cells, cells, CHANNELS), dtype=np.uint8)
    for thing in scene.objects:
        row, column = _cell(thing.x, thing.y, cells)
        pair = SHAPES.index(thing.shape) * len(COLORS) + COLORS.index(thing.color)
        target[row, column, _PAIRS + pair] = 1
        target[row, column, _TEXTURES + TEXTURES.index(thing.texture)] = 1
        target[row, column, _SIZES + SIZES.index(thing.size_name)] = 1
    for word in scene.words:
        _mark_word(target, word, cells)
    return target.reshape(cells * cells, CHANNELS)
