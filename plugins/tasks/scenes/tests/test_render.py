from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import Scene, Word, make_scene
from lossylens_task_scenes.shapes import RING_HOLE, bounding_box, placed_polygons, unit_polygons
from lossylens_task_scenes.vocabulary import BACKGROUND_KINDS, COLOR_VALUES, FONTS, SHAPES

DIGEST = """
import hashlib
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
digest = hashlib.sha256()
for index in range(12):
    digest.update(render(make_scene(11, index)).tobytes())
print(digest.hexdigest())
"""


def pixels(scene: Scene) -> np.ndarray:
    return np.asarray(render(scene)).astype(int)


def test_same_bytes_again_and_in_another_process() -> None:
    digest = hashlib.sha256()
    for index in range(12):
        digest.update(render(make_scene(11, index)).tobytes())
    # A hash seed of its own, so that nothing can hang on the order of a set.
    result = subprocess.run(
        [sys.executable, "-c", DIGEST],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "99", "PYTHONPATH": ":".join(sys.path)},
    )
    assert result.stdout.strip() == digest.hexdigest()


@pytest.mark.parametrize("kind", BACKGROUND_KINDS)
@pytest.mark.parametrize("size", [96, 224, 333])
def test_every_background_in_every_size(kind: str, size: int) -> None:
    scenes = (make_scene(6, index, size) for index in range(200))
    scene = next(scene for scene in scenes if scene.background.kind == kind)
    image = render(scene)
    assert (image.mode, image.size) == ("RGB", (size, size))


def test_the_centre_of_an_object_has_its_color(scenes: list[Scene]) -> None:
    for scene in scenes[:150]:
        image = pixels(scene)
        for thing in scene.objects:
            x, y = thing.x, thing.y
            if thing.shape == "ring":
                x += thing.radius * (1 + RING_HOLE) / 2
            if thing.size_name == "tiny" or thing.texture == "checked":
                continue
            found = image[math.floor(y), math.floor(x)]
            colors = [thing.rgb] if thing.texture == "plain" else [thing.rgb, thing.accent]
            # Antialiased edges of a pattern give mixtures of its two colours.
            low, high = np.min(colors, axis=0) - 2, np.max(colors, axis=0) + 2
            assert ((low <= found) & (found <= high)).all(), (scene.index, thing)


def test_most_of_an_object_is_nearest_to_its_color_name(scenes: list[Scene]) -> None:
    names, values = list(COLOR_VALUES), np.array(list(COLOR_VALUES.values()))
    for scene in scenes[:60]:
        image = pixels(scene)
        for thing in scene.objects:
            if thing.texture != "plain" or thing.size_name == "tiny" or thing.shape == "ring":
                continue
            reach = max(1, int(0.25 * thing.radius))
            cx, cy = math.floor(thing.x), math.floor(thing.y)
            patch = image[cy - reach : cy + reach, cx - reach : cx + reach].reshape(-1, 3)
            distances = ((patch[:, None] - values[None]) ** 2).sum(-1)
            votes = np.bincount(distances.argmin(1), minlength=len(names))
            assert names[int(votes.argmax())] == thing.color


def test_drawing_stays_within_the_boxes(scenes: list[Scene]) -> None:
    for scene in scenes[:60]:
        bare = pixels(replace(scene, objects=(), words=()))
        touched = (pixels(scene) != bare).any(-1)
        for left, top, right, bottom in [t.box for t in (*scene.objects, *scene.words)]:
            touched[
                max(0, math.floor(top) - 2) : math.ceil(bottom) + 2,
                max(0, math.floor(left) - 2) : math.ceil(right) + 2,
            ] = False
        assert not touched.any()


def test_every_object_and_word_changes_the_picture(scenes: list[Scene]) -> None:
    for scene in scenes[:60]:
        whole = pixels(scene)
        for k in range(len(scene.objects)):
            rest = scene.objects[:k] + scene.objects[k + 1 :]
            assert (pixels(replace(scene, objects=rest)) != whole).any(-1).sum() > 12
        for k in range(len(scene.words)):
            remaining = scene.words[:k] + scene.words[k + 1 :]
            assert (pixels(replace(scene, words=remaining)) != whole).any(-1).sum() > 60


@pytest.mark.parametrize("font", FONTS)
def test_letters_fill_their_box(font: str) -> None:
    scene = make_scene(1, 0)
    blank = replace(scene.background, kind="plain", colors=((255, 255, 255),))
    scenes = (make_scene(33, index) for index in range(400))
    word: Word = next(
        w for s in scenes for w in s.words if w.font == font and not w.angle and w.plate is None
    )
    drawn = replace(word, rgb=(0, 0, 0), outline=(255, 255, 255))
    image = pixels(replace(scene, background=blank, objects=(), words=(drawn,)))
    rows, columns = np.nonzero(image.min(-1) < 128)
    left, top, right, bottom = word.ink_box
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    # The extent includes the blank that a font keeps beside its first and last letter.
    assert np.allclose(found, (left, top, right, bottom), atol=1.5 + 0.1 * word.height)
    assert top - 1.5 <= rows.min()
    assert rows.max() + 1 <= bottom + 1.5


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_centred_and_of_unit_size(shape: str) -> None:
    left, top, right, bottom = bounding_box(unit_polygons(shape)[0])
    assert max(right - left, bottom - top) == pytest.approx(2, abs=1e-6)
    assert (left + right, top + bottom) == pytest.approx((0, 0), abs=1e-6)
    assert bounding_box(placed_polygons(shape, 10, 20, 5, 90)[0]) == pytest.approx(
        (10 - 5 * bottom, 20 + 5 * left, 10 - 5 * top, 20 + 5 * right)
    )


def test_unknown_shape() -> None:
    with pytest.raises(ValueError, match="hexagon"):
        unit_polygons("hexagon")
