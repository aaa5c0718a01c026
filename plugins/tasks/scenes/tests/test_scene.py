from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens_task_scenes.fonts import cap_height, font_folder
from lossylens_task_scenes.scene import MIN_SIZE, Scene, make_scene
from lossylens_task_scenes.vocabulary import (
    BACKGROUND_KINDS,
    COLORS,
    CONSONANTS,
    FONTS,
    POPULAR,
    SHAPES,
    SIZE_RANGES,
    SIZES,
    TEXTURES,
    WORDS,
)
from lossylens_toolkit.photographs import (
    HELD_OUT,
    PHOTOGRAPHS,
    load_photograph,
    photograph_names,
)

Box = tuple[float, float, float, float]


def overlap(a: Box, b: Box) -> float:
    """Pixels by which two boxes overlap along the axis where they overlap least."""
    return min(min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1]))


def test_vocabulary_is_closed_and_of_the_promised_size() -> None:
    assert (len(SHAPES), len(COLORS), len(TEXTURES), len(SIZES)) == (8, 8, 4, 4)
    assert len(set(WORDS)) == 60
    assert all(3 <= len(word) <= 5 and word.isupper() for word in WORDS)
    assert sorted(POPULAR) == sorted(SHAPES)
    assert sorted(POPULAR.values()) == sorted(COLORS)


@given(st.integers(0, 2**32), st.integers(0, 2**40))
@settings(max_examples=40, deadline=None)
def test_nothing_overlaps_and_all_is_inside(seed: int, index: int) -> None:
    scene = make_scene(seed, index)
    boxes = [thing.box for thing in scene.objects] + [word.box for word in scene.words]
    for k, box in enumerate(boxes):
        assert 0 <= box[0] < box[2] <= scene.width
        assert 0 <= box[1] < box[3] <= scene.height
        assert all(overlap(box, other) <= 0 for other in boxes[k + 1 :])


@given(st.integers(0, 10**6), st.sampled_from([96, 128, 224, 448]))
@settings(max_examples=25, deadline=None)
def test_sizes_scale_with_the_scene(index: int, size: int) -> None:
    scene = make_scene(5, index, size)
    scale = size / 224
    assert (scene.width, scene.height) == (size, size)
    for thing in scene.objects:
        low, high = SIZE_RANGES[thing.size_name]
        assert low * scale - 0.02 <= thing.diameter <= high * scale + 0.02
    for word in scene.words:
        assert 9 * scale - 0.02 <= word.height <= 36 * scale + 0.02


def test_same_seed_and_index_same_scene_and_others_differ() -> None:
    assert make_scene(3, 17) == make_scene(3, 17)
    assert make_scene(3, 17) != make_scene(3, 18)
    assert make_scene(3, 17) != make_scene(4, 17)


def test_a_scene_does_not_depend_on_what_was_made_before() -> None:
    alone = make_scene(9, 40)
    for index in range(39):
        make_scene(9, index)
    assert make_scene(9, 40) == alone


def test_numbers_of_objects_and_words(scenes: list[Scene]) -> None:
    objects = Counter(len(scene.objects) for scene in scenes)
    assert set(objects) <= set(range(2, 8))
    assert min(objects[n] for n in range(2, 8)) > 0.04 * len(scenes)
    with_words = sum(bool(scene.words) for scene in scenes) / len(scenes)
    assert 0.5 < with_words < 0.68
    assert max(len(scene.words) for scene in scenes) == 2


def test_shapes_and_colors_are_uniform_alone_and_skewed_together(scenes: list[Scene]) -> None:
    things = [thing for scene in scenes for thing in scene.objects]
    for attribute, values in (("shape", SHAPES), ("color", COLORS), ("texture", TEXTURES)):
        counts = Counter(getattr(thing, attribute) for thing in things)
        for value in values:
            # Plain is more frequent than the other textures: tiny objects are plain.
            assert 0.6 < counts[value] * len(values) / len(things) < 1.5
    popular = sum(POPULAR[thing.shape] == thing.color for thing in things) / len(things)
    assert 0.2 < popular < 0.4


def test_tiny_objects_are_rare_and_plain(scenes: list[Scene]) -> None:
    things = [thing for scene in scenes for thing in scene.objects]
    tiny = [thing for thing in things if thing.size_name == "tiny"]
    assert 0.07 < len(tiny) / len(things) < 0.17
    assert {thing.texture for thing in tiny} == {"plain"}


def test_counts_of_a_kind_are_spread(scenes: list[Scene]) -> None:
    highest = Counter(
        max(Counter(thing.shape for thing in scene.objects).values()) for scene in scenes
    )
    assert all(highest[n] > 0.03 * len(scenes) for n in range(1, 7))


def test_backgrounds(scenes: list[Scene]) -> None:
    kinds = Counter(scene.background.kind for scene in scenes)
    assert set(kinds) == set(BACKGROUND_KINDS)
    assert 0.52 < kinds["photograph"] / len(scenes) < 0.68


def test_texts(scenes: list[Scene]) -> None:
    words = [word for scene in scenes for word in scene.words]
    assert {word.font for word in words} == set(FONTS)
    assert {word.kind for word in words} == {"word", "digits", "letters"}
    for word in words:
        if word.kind == "word":
            assert word.text in WORDS
        elif word.kind == "digits":
            assert word.text == str(int(word.text))
        else:
            assert set(word.text) <= set(CONSONANTS)
    assert 0.35 < sum(word.plate is not None for word in words) / len(words) < 0.65


def test_sets_of_photographs() -> None:
    used = {
        which: {
            scene.background.photograph
            for scene in (make_scene(1, index, photographs=which) for index in range(150))
            if scene.background.photograph
        }
        for which in ("all", "held-in", "held-out")
    }
    assert used["all"] == set(PHOTOGRAPHS)
    assert used["held-out"] == set(HELD_OUT)
    assert used["held-in"] == set(PHOTOGRAPHS) - set(HELD_OUT)
    with pytest.raises(ValueError, match="held-in, held-out"):
        photograph_names("test")  # type: ignore[arg-type]


def test_the_photograph_set_changes_backgrounds_only() -> None:
    # The two sets draw the same number of random values, so contents stay comparable.
    for index in range(40):
        one, other = (make_scene(2, index, photographs=s) for s in ("all", "held-out"))
        assert one.background.kind == other.background.kind


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_there_and_free(name: str) -> None:
    photograph = PHOTOGRAPHS[name]
    image = load_photograph(name)
    assert image.size == (photograph.width, photograph.height)
    assert photograph.author
    assert photograph.licence in {"CC0", "public domain", "CC BY 2.0"}


def test_fonts_are_there_and_draw_capitals() -> None:
    for name, file in FONTS.items():
        assert (font_folder() / file).is_file()
        assert 0.5 < cap_height(name) < 0.9


@pytest.mark.parametrize(
    ("seed", "index", "size", "message"),
    [(-1, 0, 224, "negative"), (0, -1, 224, "negative"), (0, 0, MIN_SIZE - 1, "at least")],
)
def test_impossible_scenes_are_refused(seed: int, index: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_scene(seed, index, size)
