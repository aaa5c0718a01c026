"""Scenes: what is where, decided by a seed and an index.

All lengths are in pixels; boxes are (left, top, right, bottom); y points down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from lossylens_toolkit.photographs import PHOTOGRAPHS, PhotographSet, photograph_names
from numpy.typing import NDArray

from lossylens_task_scenes.fonts import text_extent
from lossylens_task_scenes.shapes import bounding_box, placed_polygons
from lossylens_task_scenes.vocabulary import (
    COLOR_VALUES,
    COLORS,
    CONSONANTS,
    FONTS,
    POPULAR,
    POPULAR_WEIGHT,
    RGB,
    SHAPES,
    SIZE_RANGES,
    SIZE_WEIGHTS,
    SIZES,
    TEXTURES,
    WORDS,
)

Box = tuple[float, float, float, float]

NOMINAL_SIZE: Final = 224
"""Scene size for which the size ranges are given."""

MIN_SIZE: Final = 96

GENERATOR_VERSION: Final = 1
"""Raised whenever a seed and an index give another scene, picture or question than before."""

_GAP = 3.0
_BORDER = 2.0
_TRIES = 60

MAX_OBJECTS: Final = 7


@dataclass(frozen=True)
class Background:
    """What lies behind the objects.

    `kind` is one of BACKGROUND_KINDS.  A photograph has `photograph`, the crop `box` in pixels of
    that file, `flip` (mirrored left to right) and `gain` (brightness factor); grey photographs are
    mapped to the ramp from `colors[0]` to `colors[1]`.  The synthetic kinds use `colors`, `angle`
    in degrees, `period` in pixels, and `noise_seed`.
    """

    kind: str
    colors: tuple[RGB, ...] = ()
    photograph: str = ""
    box: Box = (0.0, 0.0, 0.0, 0.0)
    flip: bool = False
    gain: float = 1.0
    angle: float = 0.0
    period: float = 0.0
    noise_seed: int = 0


@dataclass(frozen=True)
class SceneObject:
    """One drawn object.

    `x`, `y` is the centre and `radius` half of the longer side of the shape's bounding box before
    it is turned by `angle` degrees.  `rgb` is the exact fill, `accent` the second colour of a
    texture, `period` and `texture_angle` its spacing and direction, `outline` the thin border.
    """

    shape: str
    color: str
    texture: str
    size_name: str
    x: float
    y: float
    radius: float
    angle: float
    box: Box
    rgb: RGB
    accent: RGB
    outline: RGB
    period: float
    texture_angle: int

    @property
    def diameter(self) -> float:
        """Pixels across."""
        return 2 * self.radius


@dataclass(frozen=True)
class Word:
    """A written word.

    `kind` is "word" (of the closed list), "digits" or "letters" (meaningless).  `x`, `y` is the
    centre, `height` that of a capital letter, `angle` the turn in degrees, `box` the extent with
    plate or outline.  `plate` is the colour of the rectangle behind, None when the word stands on
    the background with a border of colour `outline`.
    """

    text: str
    kind: str
    font: str
    x: float
    y: float
    height: float
    angle: float
    box: Box
    rgb: RGB
    plate: RGB | None
    outline: RGB
    extent: tuple[int, int]

    @property
    def ink_box(self) -> Box:
        """Extent of the letters themselves before they are turned."""
        width, tall = self.extent
        return (
            self.x - width / 2,
            self.y - tall / 2,
            self.x + width / 2,
            self.y + tall / 2,
        )


@dataclass(frozen=True)
class Scene:
    """A complete description: rendering it needs nothing else."""

    seed: int
    index: int
    width: int
    height: int
    background: Background
    objects: tuple[SceneObject, ...]
    words: tuple[Word, ...]


def luma(rgb: RGB) -> float:
    """Rec. 601 luma, 0 to 255."""
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def make_scene(
    seed: int,
    index: int,
    size: int = NOMINAL_SIZE,
    photographs: PhotographSet = "all",
) -> Scene:
    """Sample scene number `index` of the sequence `seed`.

    Every index is reachable on its own.  `size` is width and height in pixels; sizes of objects
    and words scale with it.  `photographs` chooses the pictures that backgrounds are cut from.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got {seed} and {index}")
    if size < MIN_SIZE:
        raise ValueError(f"a scene needs at least {MIN_SIZE} pixels, got {size}")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    scale = size / NOMINAL_SIZE
    background = _sample_background(rng, size, photographs)
    objects, words = _sample_contents(rng, size, scale)
    return Scene(seed, index, size, size, background, objects, words)


def _choice(rng: np.random.Generator, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    # Rounded so that a scene prints and compares well.
    return round(float(rng.uniform(low, high)), 2)


def _random_rgb(rng: np.random.Generator, low: int = 20, high: int = 236) -> RGB:
    r, g, b = (int(v) for v in rng.integers(low, high, size=3))
    return (r, g, b)


def _jittered(rng: np.random.Generator, rgb: RGB, amount: int = 12) -> RGB:
    shift = rng.integers(-amount, amount + 1, size=3) + int(rng.integers(-amount, amount + 1)) // 2
    r, g, b = (int(min(255, max(0, v + d))) for v, d in zip(rgb, shift, strict=True))
    return (r, g, b)


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """Colour at `share` (0 to 1) of the way from `a` to `b`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return (red, green, blue)


# --- backgrounds ------------------------------------------------------------------------------


def _sample_background(
    rng: np.random.Generator, size: int, photographs: PhotographSet
) -> Background:
    if rng.random() < 0.6:
        return _sample_photograph(rng, photographs)
    kinds = ("gradient", "noise", "stripes", "checker", "plain")
    kind = str(rng.choice(kinds, p=(0.25, 0.3, 0.15, 0.15, 0.15)))
    first = _random_rgb(rng)
    if kind in ("stripes", "checker"):
        # Two tones near each other: a strong pattern would drown small objects.
        second = mix(first, _random_rgb(rng), _uniform(rng, 0.3, 0.8))
        period = _uniform(rng, 10, 40) * size / NOMINAL_SIZE
        return Background(kind, (first, second), angle=_uniform(rng, 0, 180), period=period)
    if kind == "gradient":
        return Background(kind, (first, _random_rgb(rng)), angle=_uniform(rng, 0, 360))
    if kind == "noise":
        second = _random_rgb(rng)
        noise_seed = int(rng.integers(2**31))
        gain = _uniform(rng, 0.5, 1.2)
        return Background(kind, (first, second), noise_seed=noise_seed, gain=gain)
    return Background("plain", (first,))


def _sample_photograph(rng: np.random.Generator, photographs: PhotographSet) -> Background:
    name = _choice(rng, photograph_names(photographs))
    photograph = PHOTOGRAPHS[name]
    longest = min(photograph.width, photograph.height)
    # Nothing is enlarged more than about 1.5 times at the nominal size: soft photographs would
    # compress too well.
    side = round(max(150.0, longest * float(rng.uniform(0.4, 1.0))), 1)
    left = _uniform(rng, 0, photograph.width - side)
    top = _uniform(rng, 0, photograph.height - side)
    colors: tuple[RGB, ...] = ()
    if photograph.grey:
        tint = _random_rgb(rng, 120, 256)
        colors = (mix((0, 0, 0), tint, 0.1), mix(tint, (255, 255, 255), 0.3))
    return Background(
        "photograph",
        colors,
        photograph=name,
        box=(left, top, round(left + side, 2), round(top + side, 2)),
        flip=bool(rng.random() < 0.5),
        gain=_uniform(rng, 0.75, 1.15),
    )


# --- contents ---------------------------------------------------------------------------------


def _pair_weights() -> NDArray[np.float64]:
    weights = np.ones((len(SHAPES), len(COLORS)))
    for shape, color in POPULAR.items():
        weights[SHAPES.index(shape), COLORS.index(color)] = POPULAR_WEIGHT
    return weights


_PAIR_WEIGHTS: Final = _pair_weights()


def _sample_pair(rng: np.random.Generator, allowed: NDArray[np.float64]) -> tuple[str, str]:
    """A shape and a colour, from the joint distribution restricted to `allowed`."""
    weights = (_PAIR_WEIGHTS * allowed).ravel()
    cumulative = np.cumsum(weights)
    k = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
    return SHAPES[k // len(COLORS)], COLORS[k % len(COLORS)]


def _sample_kinds(rng: np.random.Generator) -> list[tuple[str, str]]:
    """Shape and colour of every object.

    Two scenes of three have a theme: a shape, a colour or both that exactly k objects share, with
    k uniform from 2 to 6.  Without it counts above 2 would hardly occur.
    """
    total = int(rng.integers(2, MAX_OBJECTS + 1))
    everything = np.ones(_PAIR_WEIGHTS.shape)
    if rng.random() >= 0.67:
        return [_sample_pair(rng, everything) for _ in range(total)]
    shared = int(rng.integers(2, 7))
    total = max(total, shared)
    shape, color = _sample_pair(rng, everything)
    by = _choice(rng, ("shape", "color", "both"))
    inside = np.zeros(_PAIR_WEIGHTS.shape)
    if by == "shape":
        inside[SHAPES.index(shape), :] = 1
    elif by == "color":
        inside[:, COLORS.index(color)] = 1
    else:
        inside[SHAPES.index(shape), COLORS.index(color)] = 1
    kinds = [_sample_pair(rng, inside) for _ in range(shared)]
    return kinds + [_sample_pair(rng, 1 - inside) for _ in range(total - shared)]


def _sample_text(rng: np.random.Generator) -> tuple[str, str]:
    """A text and its kind."""
    draw = rng.random()
    if draw < 0.84:
        return _choice(rng, WORDS), "word"
    length = int(rng.integers(3, 5))
    if draw < 0.92:
        # No leading zero: readers of tables would drop it.
        return str(int(rng.integers(10 ** (length - 1), 10**length))), "digits"
    return "".join(_choice(rng, tuple(CONSONANTS)) for _ in range(length)), "letters"


@dataclass(frozen=True)
class _Pending:
    """Something to be placed: exactly one of object kind and text is set."""

    kind: tuple[str, str] | None
    text: tuple[str, str] | None
    length: float  # diameter or letter height
    size_name: str
    font: str = ""
    angle: float = 0.0
    extent: tuple[int, int] = (0, 0)
    half: tuple[float, float] = (0.0, 0.0)
    plate: bool = False


def _pending_object(
    rng: np.random.Generator, kind: tuple[str, str], size_name: str, scale: float
) -> _Pending:
    low, high = SIZE_RANGES[size_name]
    diameter = round(_uniform(rng, low, high) * scale, 2)
    angle = _uniform(rng, -9, 9)
    left, top, right, bottom = bounding_box(
        placed_polygons(kind[0], 0.0, 0.0, diameter / 2, angle)[0]
    )
    half = (max(-left, right) + 1, max(-top, bottom) + 1)
    return _Pending(kind, None, diameter, size_name, angle=angle, half=half)


def _pending_word(
    rng: np.random.Generator, text: tuple[str, str], scale: float, *, small: bool = False
) -> _Pending:
    if rng.random() < 0.1:
        height = _uniform(rng, 9, 12) * scale
    else:
        height = _uniform(rng, 14, 18 if small else 36) * scale
    font = _choice(rng, tuple(FONTS))
    angle = _uniform(rng, 8, 18) * (1 if rng.random() < 0.5 else -1) if rng.random() < 0.15 else 0.0
    plate = bool(rng.random() < 0.5)
    width, tall = text_extent(font, text[0], height)
    margin = word_margin(height, plate)
    c, s = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    half_w, half_h = width / 2 + margin, tall / 2 + margin
    half = (round(c * half_w + s * half_h, 2), round(s * half_w + c * half_h, 2))
    return _Pending(
        None,
        text,
        round(height, 2),
        "",
        font=font,
        angle=angle,
        extent=(width, tall),
        half=half,
        plate=plate,
    )


def word_margin(height: float, plate: bool) -> float:
    """Pixels around the letters: of the plate, or of the outline."""
    return max(2.0, 0.3 * height) if plate else max(1.0, 0.08 * height)


def _place(
    rng: np.random.Generator, half: tuple[float, float], size: int, taken: list[Box]
) -> tuple[float, float] | None:
    """A free centre for a box of half sides `half`, or None after many tries."""
    low_x, high_x = half[0] + _BORDER, size - half[0] - _BORDER
    low_y, high_y = half[1] + _BORDER, size - half[1] - _BORDER
    if low_x > high_x or low_y > high_y:
        return None
    draws = rng.random((_TRIES, 2))
    for u, v in draws.tolist():
        x, y = low_x + u * (high_x - low_x), low_y + v * (high_y - low_y)
        left, right = x - half[0] - _GAP, x + half[0] + _GAP
        top, bottom = y - half[1] - _GAP, y + half[1] + _GAP
        if all(
            right <= other[0] or left >= other[2] or bottom <= other[1] or top >= other[3]
            for other in taken
        ):
            return round(x, 2), round(y, 2)
    return None


def _sample_contents(
    rng: np.random.Generator, size: int, scale: float
) -> tuple[tuple[SceneObject, ...], tuple[Word, ...]]:
    pending = []
    for kind in _sample_kinds(rng):
        size_name = str(rng.choice(SIZES, p=SIZE_WEIGHTS))
        pending.append(_pending_object(rng, kind, size_name, scale))
    draw = rng.random()
    count = 0 if draw < 0.4 else 1 if draw < 0.8 else 2
    texts: list[tuple[str, str]] = []
    while len(texts) < count:
        text = _sample_text(rng)
        if text not in texts:
            texts.append(text)
            pending.append(_pending_word(rng, text, scale))
    # Large things first: they fit worst.
    pending.sort(key=lambda item: -item.half[0] * item.half[1])

    objects: list[SceneObject] = []
    words: list[Word] = []
    taken: list[Box] = []
    while pending:
        item = pending.pop(0)
        centre = _place(rng, item.half, size, taken)
        if centre is None:
            # Too full: try again smaller, and give up a tiny object or a small word.
            if item.kind is not None and item.size_name != SIZES[0]:
                smaller = SIZES[max(1, SIZES.index(item.size_name) - 1)]
                if smaller == item.size_name:
                    smaller = SIZES[0]
                pending.insert(0, _pending_object(rng, item.kind, smaller, scale))
            elif item.text is not None and item.length > 18 * scale:
                pending.insert(0, _pending_word(rng, item.text, scale, small=True))
            continue
        x, y = centre
        taken.append((x - item.half[0], y - item.half[1], x + item.half[0], y + item.half[1]))
        if item.kind is not None:
            objects.append(_finish_object(rng, item, item.kind, x, y))
        elif item.text is not None:
            words.append(_finish_word(rng, item, item.text, x, y))
    return tuple(objects), tuple(words)


def _finish_object(
    rng: np.random.Generator, item: _Pending, kind: tuple[str, str], x: float, y: float
) -> SceneObject:
    shape, color = kind
    radius = item.length / 2
    # A texture needs room to be seen, so the tiny ones are plain.
    texture = "plain" if item.size_name == "tiny" else _choice(rng, TEXTURES)
    rgb = _jittered(rng, COLOR_VALUES[color])
    light = luma(rgb) > 125
    # Black and white get a fainter second tone, or one would be taken for the other.
    share = 0.32 if color in ("black", "white") else 0.5
    accent = mix(rgb, (0, 0, 0) if light else (255, 255, 255), share)
    left, top, right, bottom = bounding_box(placed_polygons(shape, x, y, radius, item.angle)[0])
    return SceneObject(
        shape=shape,
        color=color,
        texture=texture,
        size_name=item.size_name,
        x=x,
        y=y,
        radius=radius,
        angle=item.angle,
        box=(round(left, 2), round(top, 2), round(right, 2), round(bottom, 2)),
        rgb=rgb,
        accent=accent,
        outline=(20, 20, 20) if light else (240, 240, 240),
        period=round(max(4.5, item.length / 5), 2),
        texture_angle=(0, 45, 90, 135)[int(rng.integers(4))],
    )


_PLATES: Final[tuple[RGB, ...]] = (
    (245, 245, 240),
    (250, 236, 190),
    (200, 225, 245),
    (30, 30, 34),
    (24, 44, 92),
    (20, 78, 54),
)


def _finish_word(
    rng: np.random.Generator, item: _Pending, text: tuple[str, str], x: float, y: float
) -> Word:
    plate: RGB | None = None
    rgb = _jittered(rng, COLOR_VALUES[_choice(rng, COLORS)])
    if item.plate:
        plate = _PLATES[int(rng.integers(len(_PLATES)))]
        light = luma(plate) > 128
        # Push the letters away from the plate until they can be read.
        toward: RGB = (0, 0, 0) if light else (255, 255, 255)
        while abs(luma(rgb) - luma(plate)) < 120:
            rgb = mix(rgb, toward, 0.25)
    return Word(
        text=text[0],
        kind=text[1],
        font=item.font,
        x=x,
        y=y,
        height=item.length,
        angle=item.angle,
        box=(
            round(x - item.half[0], 2),
            round(y - item.half[1], 2),
            round(x + item.half[0], 2),
            round(y + item.half[1], 2),
        ),
        rgb=rgb,
        plate=plate,
        outline=(16, 16, 16) if luma(rgb) > 115 else (244, 244, 244),
        extent=item.extent,
    )
