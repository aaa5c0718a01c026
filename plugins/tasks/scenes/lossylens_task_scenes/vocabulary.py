"""The closed vocabulary of the scenes: what can be drawn and how it is called."""

from __future__ import annotations

from typing import Final

RGB = tuple[int, int, int]

SHAPES: Final[tuple[str, ...]] = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "ring",
    "diamond",
    "heart",
)

PLURALS: Final[dict[str, str]] = {
    **{shape: shape + "s" for shape in SHAPES},
    "cross": "crosses",
    "object": "objects",
}

COLOR_VALUES: Final[dict[str, RGB]] = {
    "red": (216, 34, 36),
    "green": (38, 158, 58),
    "blue": (36, 78, 214),
    "yellow": (244, 220, 38),
    "purple": (142, 48, 172),
    "orange": (244, 130, 20),
    "white": (242, 242, 242),
    "black": (22, 22, 22),
}
COLORS: Final[tuple[str, ...]] = tuple(COLOR_VALUES)

TEXTURES: Final[tuple[str, ...]] = ("plain", "striped", "dotted", "checked")

SIZE_RANGES: Final[dict[str, tuple[float, float]]] = {
    "tiny": (6.0, 10.0),
    "small": (14.0, 22.0),
    "medium": (28.0, 44.0),
    "large": (52.0, 80.0),
}
"""Pixels across, for a scene of 224 pixels; other scene sizes scale them."""

SIZES: Final[tuple[str, ...]] = tuple(SIZE_RANGES)

SIZE_WEIGHTS: Final[tuple[float, ...]] = (0.12, 0.30, 0.36, 0.22)

POPULAR: Final[dict[str, str]] = {
    "circle": "blue",
    "square": "green",
    "triangle": "orange",
    "star": "yellow",
    "cross": "black",
    "ring": "white",
    "diamond": "purple",
    "heart": "red",
}
"""Each shape's favourite colour.

It is drawn three times as often as each other colour of that shape, which gives the "popular"
negatives of existence questions a meaning.  Because it pairs shapes and colours one to one, shapes
alone and colours alone stay uniform.
"""

POPULAR_WEIGHT: Final[float] = 3.0

WORDS: Final[tuple[str, ...]] = (
    "CAT", "DOG", "SUN", "MAP", "BUS", "CAR", "HAT", "BED", "CUP", "KEY",
    "BOX", "PEN", "ICE", "TEA", "EGG", "SKY", "FOX", "BEE", "OWL", "JAM",
    "FISH", "BIRD", "TREE", "BOOK", "DOOR", "LAMP", "SHIP", "RAIN", "SNOW", "MOON",
    "CAKE", "MILK", "SALT", "ROAD", "PARK", "BANK", "SHOP", "FARM", "GOLD", "WIND",
    "TIME", "BLUE", "ROCK", "LEAF", "BALL", "COIN", "DESK", "KING", "LION", "WOLF",
    "APPLE", "BREAD", "CHAIR", "HOTEL", "HOUSE", "LIGHT", "MUSIC", "PAPER", "TRAIN", "WATER",
)  # fmt: skip

CONSONANTS: Final[str] = "BCDFGHKLMNPRSTVWXZ"
"""Letters of the meaningless strings; without vowels they cannot spell NA, NAN, NULL or NONE,
which spreadsheet readers take for missing values."""

FONTS: Final[dict[str, str]] = {
    "sans": "DejaVuSans.ttf",
    "sans-bold": "DejaVuSans-Bold.ttf",
    "serif": "DejaVuSerif-Bold.ttf",
    "mono": "DejaVuSansMono-Bold.ttf",
    "roman": "STIXGeneralBol.ttf",
    "italic": "STIXGeneralBolIta.ttf",
}
"""Font name to file among the fonts that matplotlib ships."""

BACKGROUND_KINDS: Final[tuple[str, ...]] = (
    "photograph",
    "gradient",
    "noise",
    "stripes",
    "checker",
    "plain",
)

BACKGROUND_PHRASES: Final[dict[str, str]] = {
    "photograph": "a photograph",
    "gradient": "a gradient",
    "noise": "noise",
    "stripes": "stripes",
    "checker": "a checkerboard",
    "plain": "a plain background",
}

POSITIONS: Final[tuple[tuple[str, str, str], ...]] = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
"""Names of the cells of a 3x3 grid, row by row."""

NUMBER_WORDS: Final[tuple[str, ...]] = ("no", "one", "two", "three", "four", "five", "six", "seven")
