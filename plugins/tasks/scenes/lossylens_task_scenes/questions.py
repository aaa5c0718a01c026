"""Questions about a scene, with their true answers.

Every question refers to something unique, has one right answer, and uses one of a few fixed
wordings, so that a tiny tokenizer covers them.  Yes/no questions are balanced: the answer is drawn
first and the question made to fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, TypeVar

import numpy as np
from lossylens.vlm import Question, QuestionKind

from lossylens_task_scenes.scene import Scene, SceneObject, Word
from lossylens_task_scenes.vocabulary import (
    BACKGROUND_KINDS,
    BACKGROUND_PHRASES,
    COLORS,
    CONSONANTS,
    NUMBER_WORDS,
    PLURALS,
    POPULAR,
    POSITIONS,
    SHAPES,
    TEXTURES,
    WORDS,
)

Kind = Literal["yes_no", "multiple_choice", "short_answer", "open", "caption"]

YES_NO_SUFFIX: Final = " Please answer yes or no."

CAPTION_QUESTION: Final = (
    "Please describe this image in general. Directly provide the description,"
    ' do not include prefix like "This image depicts". '
)
"""The reference evaluator's prompt for captions; the blank at the end belongs to it."""

LETTERS: Final = "ABCD"

TOPICS: Final[tuple[str, ...]] = (
    "existence",
    "color",
    "shape",
    "texture",
    "count",
    "position",
    "relation",
    "size",
    "word",
    "background",
    "logic",
    "caption",
)

MAX_COUNT: Final = 6

ALL_SPLITS: Final = "random,popular,adversarial"


@dataclass(frozen=True)
class SceneQuestion:
    """One question with its truth.

    `options` are the texts of a multiple choice, whose letters A, B, ... are implied; `answer` is
    then the letter.  `references` are the accepted answers, or five captions.  `category` refines
    the topic.  `subject_size` is the size in pixels of what is asked about: the diameter of the
    (smaller) object or the height of the letters, 0 when nothing in particular is.
    """

    kind: Kind
    topic: str
    text: str
    answer: str
    options: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    category: str = ""
    subject_size: float = 0.0

    def __post_init__(self) -> None:
        if not self.references:
            object.__setattr__(self, "references", (self.answer,))

    def structured(self) -> Question:
        """The question as VLMs get it, without its truth."""
        return Question(
            kind=QuestionKind(self.kind),
            text=self.text,
            task="scenes",
            options=dict(zip(LETTERS, self.options, strict=False)),
        )


Rng = np.random.Generator
T = TypeVar("T")
Asker = Callable[[Scene, Rng, int], list[SceneQuestion]]


# --- helpers ----------------------------------------------------------------------------------


def article(noun: str) -> str:
    """The noun phrase with "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _pick(rng: Rng, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _shuffled(rng: Rng, items: Iterable[T]) -> list[T]:
    pool = list(items)
    return [pool[k] for k in rng.permutation(len(pool)).tolist()]


def _yes_no(
    topic: str, text: str, truth: bool, size: float = 0.0, category: str = ""
) -> SceneQuestion:
    return SceneQuestion(
        kind="yes_no",
        topic=topic,
        text=text + YES_NO_SUFFIX,
        answer="Yes" if truth else "No",
        category=category or topic,
        subject_size=size,
    )


def _short(topic: str, text: str, answer: str, size: float, category: str = "") -> SceneQuestion:
    return SceneQuestion(
        "short_answer", topic, text, answer, category=category or topic, subject_size=size
    )


def _truths(rng: Rng, n: int) -> list[bool]:
    """n truth values, half of them True; which comes first, and the odd one, are drawn."""
    first = bool(rng.random() < 0.5)
    return [first ^ bool(k % 2) for k in range(n)]


def _referents(scene: Scene, rng: Rng, avoid: str = "") -> list[tuple[SceneObject, str]]:
    """Objects in random order, each with one phrase that means it alone.

    The phrase does not name the attribute `avoid`, which is the one asked for.
    """
    shapes = Counter(o.shape for o in scene.objects)
    colors = Counter(o.color for o in scene.objects)
    pairs = Counter((o.shape, o.color) for o in scene.objects)
    found = []
    for thing in _shuffled(rng, scene.objects):
        names = []
        if avoid != "shape" and shapes[thing.shape] == 1:
            names.append(thing.shape)
        if avoid != "color" and colors[thing.color] == 1:
            names.append(f"{thing.color} object")
        if avoid not in ("shape", "color") and pairs[thing.shape, thing.color] == 1:
            names.append(f"{thing.color} {thing.shape}")
        if names:
            found.append((thing, _pick(rng, names)))
    return found


# --- existence --------------------------------------------------------------------------------


def absent_pairs(scene: Scene, how: str) -> list[tuple[str, str]]:
    """Shape and colour pairs that no object has; `how` is random, popular or adversarial."""
    present = {(o.shape, o.color) for o in scene.objects}
    shapes, colors = {s for s, _ in present}, {c for _, c in present}
    absent = [(s, c) for s in SHAPES for c in COLORS if (s, c) not in present]
    if how == "popular":
        pool = [pair for pair in absent if POPULAR[pair[0]] == pair[1]]
    elif how == "adversarial":
        # Both attributes are there, on different objects; failing that, one of them.
        pool = [pair for pair in absent if pair[0] in shapes and pair[1] in colors]
        pool = pool or [pair for pair in absent if pair[0] in shapes or pair[1] in colors]
    else:
        pool = absent
    return pool or absent


def _absent_pair(scene: Scene, rng: Rng, how: str) -> tuple[str, str]:
    return _pick(rng, absent_pairs(scene, how))


def existence_question(scene: Scene, rng: Rng, truth: bool, how: str = "random") -> SceneQuestion:
    """Is there such an object?  `how` chooses the negative: random, popular or adversarial.

    A positive belongs to all three splits.  One random question of three names a shape alone.
    """
    if truth:
        thing = _pick(rng, scene.objects)
        noun = f"{thing.color} {thing.shape}"
        alike = [o for o in scene.objects if (o.shape, o.color) == (thing.shape, thing.color)]
        if rng.random() < 0.25:
            noun = thing.shape
            alike = [o for o in scene.objects if o.shape == thing.shape]
        size = max(o.diameter for o in alike)
        category = ALL_SPLITS
    else:
        shape, color = _absent_pair(scene, rng, how)
        noun, size, category = f"{color} {shape}", 0.0, how
        missing = [s for s in SHAPES if s not in {o.shape for o in scene.objects}]
        if how == "random" and missing and rng.random() < 0.6:
            noun = _pick(rng, missing)
    return _yes_no("existence", f"Is there {article(noun)} in the image?", truth, size, category)


def existence_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n questions, half of them with the answer Yes, negatives of the three kinds in turn."""
    kinds = _shuffled(rng, ("random", "popular", "adversarial"))
    found: dict[str, SceneQuestion] = {}
    for k, truth in enumerate(_truths(rng, n)):
        question = existence_question(scene, rng, truth, kinds[(k // 2) % 3])
        for _ in range(8):
            if question.text not in found:
                break
            question = existence_question(scene, rng, truth, kinds[(k // 2) % 3])
        found.setdefault(question.text, question)
    return list(found.values())


# --- attributes -------------------------------------------------------------------------------


def _attribute_facts(
    scene: Scene, rng: Rng, attribute: str
) -> list[tuple[SceneObject, str, str, str]]:
    """(object, its name, question, value) for every object that can be asked about."""
    facts = []
    for thing, name in _referents(scene, rng, attribute):
        if attribute == "color":
            text = f"What color is the {name}?"
        elif attribute == "shape":
            text = f"What shape is the {name}?"
        else:
            if thing.size_name == "tiny":
                # Tiny objects are always plain and show no texture: nothing to see.
                continue
            text = f"What texture is the {name}?"
        facts.append((thing, name, text, str(getattr(thing, attribute))))
    return facts


def _attribute_questions(scene: Scene, rng: Rng, n: int, attribute: str) -> list[SceneQuestion]:
    return [
        _short(attribute, text, value, thing.diameter)
        for thing, _, text, value in _attribute_facts(scene, rng, attribute)[:n]
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


_VALUES: Final[dict[str, tuple[str, ...]]] = {
    "color": COLORS,
    "shape": SHAPES,
    "texture": TEXTURES,
}


def attribute_yes_no(scene: Scene, rng: Rng, n: int, attribute: str) -> list[SceneQuestion]:
    """Up to n yes/no questions for a colour, shape or texture ("Is the star red?")."""
    facts = _attribute_facts(scene, rng, attribute)[:n]
    found = []
    for (thing, name, _, value), truth in zip(facts, _truths(rng, len(facts)), strict=True):
        said = value
        if not truth:
            said = _pick(rng, [v for v in _VALUES[attribute] if v != value])
        noun = article(said) if attribute == "shape" else said
        found.append(_yes_no(attribute, f"Is the {name} {noun}?", truth, thing.diameter))
    return found


def either_or_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions that offer two values ("Is the star red or blue?"); short answer."""
    found: list[SceneQuestion] = []
    for attribute in _shuffled(rng, tuple(_VALUES)):
        for thing, name, _, value in _attribute_facts(scene, rng, attribute)[:2]:
            wrong = _pick(rng, [v for v in _VALUES[attribute] if v != value])
            first, second = _shuffled(rng, (value, wrong))
            if attribute == "shape":
                first, second = article(first), article(second)
            text = f"Is the {name} {first} or {second}?"
            found.append(_short(attribute, text, value, thing.diameter, "either or"))
    return _shuffled(rng, found)[:n]


# --- counting ---------------------------------------------------------------------------------

_COUNT_WEIGHTS: Final[tuple[float, ...]] = (0.2, 0.3, 0.55, 1.2, 2.4, 3.6, 6.0)
"""How much each true count is preferred among those a scene offers, so that 0 to 6 come about
equally often over many scenes."""


def _count_facts(scene: Scene) -> list[tuple[str, int, float]]:
    """(noun, count, size of the smallest one) for every shape and colour."""
    facts = []
    for shape in SHAPES:
        sizes = [o.diameter for o in scene.objects if o.shape == shape]
        facts.append((shape, len(sizes), min(sizes, default=0.0)))
    for color in COLORS:
        sizes = [o.diameter for o in scene.objects if o.color == color]
        facts.append((f"{color} object", len(sizes), min(sizes, default=0.0)))
    return [fact for fact in facts if fact[1] <= MAX_COUNT]


def _plural(noun: str) -> str:
    *before, last = noun.split(" ")
    return " ".join([*before, PLURALS[last]])


def _drawn_counts(scene: Scene, rng: Rng, n: int) -> list[tuple[str, int, float]]:
    facts = _count_facts(scene)
    chosen: list[tuple[str, int, float]] = []
    while facts and len(chosen) < n:
        values = sorted({count for _, count, _ in facts})
        weights = np.cumsum([_COUNT_WEIGHTS[v] for v in values])
        k = int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))
        fact = _pick(rng, [fact for fact in facts if fact[1] == values[k]])
        facts.remove(fact)
        chosen.append(fact)
    return chosen


def count_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n questions for a number, 0 to 6, as digits."""
    return [
        _short("count", f"How many {_plural(noun)} are in the image?", str(count), size)
        for noun, count, size in _drawn_counts(scene, rng, n)
    ]


def count_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n questions of the form "Are there 3 stars in the image?"; 3 means exactly 3."""
    found = []
    facts = _drawn_counts(scene, rng, n)
    for (noun, count, size), truth in zip(facts, _truths(rng, len(facts)), strict=True):
        said = count
        if not truth:
            near = [v for v in range(MAX_COUNT + 1) if v != count and abs(v - count) <= 2]
            said = _pick(rng, near)
        text = f"Are there {said} {_plural(noun)} in the image?"
        if said == 1:
            text = f"Is there 1 {noun} in the image?"
        found.append(_yes_no("count", text, truth, size))
    return found


# --- position and relation --------------------------------------------------------------------


def cell_of(scene: Scene, x: float, y: float, margin: float = 0.05) -> str | None:
    """Name of the 3x3 cell that holds a point; None within `margin` (of the side) of a border."""
    column, row = 3 * x / scene.width, 3 * y / scene.height
    for value in (column, row):
        if min(abs(value - 1), abs(value - 2)) < 3 * margin:
            return None
    return POSITIONS[min(2, int(row))][min(2, int(column))]


def _things(scene: Scene, rng: Rng) -> list[tuple[float, float, float, str]]:
    """(x, y, size, name) of everything that has a unique name, in random order."""
    things = [(o.x, o.y, o.diameter, name) for o, name in _referents(scene, rng)]
    things += [(w.x, w.y, w.height, f"word {w.text}") for w in scene.words if w.kind == "word"]
    return _shuffled(rng, things)


def position_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions for the cell of a 3x3 grid; things near a border are not asked about."""
    found: list[SceneQuestion] = []
    for x, y, size, name in _things(scene, rng):
        cell = cell_of(scene, x, y)
        if cell is not None and len(found) < n:
            found.append(_short("position", f"Where is the {name} in the image?", cell, size))
    return found


def half_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions for the half of the image that holds something."""
    found: list[SceneQuestion] = []
    truths = _truths(rng, n)
    for x, y, size, name in _things(scene, rng):
        sides = []
        if abs(x / scene.width - 0.5) > 0.08:
            sides.append(("left", "right") if x < scene.width / 2 else ("right", "left"))
        if abs(y / scene.height - 0.5) > 0.08:
            sides.append(("top", "bottom") if y < scene.height / 2 else ("bottom", "top"))
        if not sides or len(found) >= n:
            continue
        truth = truths[len(found)]
        side = _pick(rng, sides)[0 if truth else 1]
        text = f"Is the {name} in the {side} half of the image?"
        found.append(_yes_no("position", text, truth, size, "half"))
    return found


RELATION_MARGIN: Final = 0.12
"""Least distance along the asked axis, in sides of the image."""


def relation_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions for left of, right of, above, below, between two objects."""
    referents = _referents(scene, rng)
    pairs = [(a, b) for a in referents for b in referents if a[0] is not b[0]]
    found: list[SceneQuestion] = []
    truths = _truths(rng, n)
    for (a, name_a), (b, name_b) in _shuffled(rng, pairs):
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
        relation = _pick(rng, relations)[0 if truth else 1]
        text = f"Is the {name_a} {relation} the {name_b}?"
        found.append(_yes_no("relation", text, truth, min(a.diameter, b.diameter)))
    return found


def size_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n yes/no questions whether one object is larger (by a third at least) than another."""
    referents = _referents(scene, rng)
    pairs = [(a, b) for a in referents for b in referents if a[0].diameter > 1.33 * b[0].diameter]
    found = []
    truths = _truths(rng, n)
    for pair, truth in zip(_shuffled(rng, pairs), truths, strict=False):
        (_, name_a), (b, name_b) = pair
        first, second = (name_a, name_b) if truth else (name_b, name_a)
        text = f"Is the {first} larger than the {second}?"
        found.append(_yes_no("size", text, truth, b.diameter))
    return found


# --- words ------------------------------------------------------------------------------------


def _distance(a: str, b: str) -> float:
    """How different two words look: letters that differ in place, and the length."""
    return sum(x != y for x, y in zip(a, b, strict=False)) + 0.75 * abs(len(a) - len(b))


@lru_cache(maxsize=256)
def similar_words(text: str, count: int = 8) -> tuple[str, ...]:
    """Words of the closed list that look most like `text`, without it."""
    others = [word for word in WORDS if word != text]
    return tuple(sorted(others, key=lambda word: (_distance(text, word), word))[:count])


def _confusables(scene: Scene, word: Word, rng: Rng, count: int) -> list[str]:
    """Different texts that are not in the image and could be taken for `word`."""
    present = {w.text for w in scene.words}
    if word.kind == "word":
        near = [text for text in similar_words(word.text) if text not in present]
        return _shuffled(rng, near)[:count]
    alphabet = "123456789" if word.kind == "digits" else CONSONANTS
    found: list[str] = []
    while len(found) < count:
        at = int(rng.integers(len(word.text)))
        text = word.text[:at] + _pick(rng, alphabet) + word.text[at + 1 :]
        if text not in present and text not in found:
            found.append(text)
    return found


def _word_facts(scene: Scene, rng: Rng) -> list[tuple[Word, str]]:
    """(word, question that it answers)."""
    if len(scene.words) == 1:
        return [(scene.words[0], "What is written in the image?")]
    if len(scene.words) != 2:
        return []
    a, b = scene.words
    facts = []
    if abs(a.y - b.y) > 0.1 * scene.height:
        high, low = (a, b) if a.y < b.y else (b, a)
        facts += [(high, "What word is at the top?"), (low, "What word is at the bottom?")]
    elif abs(a.x - b.x) > 0.1 * scene.width:
        first, last = (a, b) if a.x < b.x else (b, a)
        facts += [(first, "What word is on the left?"), (last, "What word is on the right?")]
    return _shuffled(rng, facts)


def word_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions to read a word; the answer is in upper case, as written."""
    return [
        SceneQuestion("open", "word", text, word.text, category=word.kind, subject_size=word.height)
        for word, text in _word_facts(scene, rng)[:n]
    ]


def word_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions whether a word is written; the wrong words look like the right ones."""
    found = []
    words = _shuffled(rng, scene.words)
    for k, truth in enumerate(_truths(rng, n) if words else []):
        word = words[k % len(words)]
        said = word.text if truth else _confusables(scene, word, rng, 1)[0]
        text = f"Is the word {said} written in the image?"
        found.append(_yes_no("word", text, truth, word.height, word.kind))
    return found


def first_letter_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions for the first letter of the only word of a scene."""
    if len(scene.words) != 1 or scene.words[0].kind == "digits":
        return []
    word = scene.words[0]
    found = []
    for truth in _truths(rng, n):
        letter = word.text[0]
        if not truth:
            letter = _pick(rng, [other[0] for other in WORDS if other[0] != letter])
        text = f"Does the word in the image start with {letter}?"
        found.append(_yes_no("word", text, truth, word.height, "first letter"))
    return found


# --- background and logic ---------------------------------------------------------------------


def background_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n yes/no questions for the kind of background."""
    found = []
    for truth in _truths(rng, n):
        kind = scene.background.kind
        if not truth:
            # Photographs are the commonest, so they are also the commonest wrong kind.
            others = [k for k in BACKGROUND_KINDS if k != kind]
            if "photograph" in others and rng.random() < 0.9:
                kind = "photograph"
            else:
                kind = _pick(rng, others)
        text = f"Is the background {BACKGROUND_PHRASES[kind]}?"
        found.append(_yes_no("background", text, truth))
    return found


def more_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions whether there are more of one shape than of another."""
    counts = Counter(o.shape for o in scene.objects)
    pairs = [(a, b) for a in SHAPES for b in SHAPES if counts[a] > counts[b]]
    # Two shapes that are both there make the better question.
    pairs.sort(key=lambda pair: counts[pair[1]] == 0)
    both = [pair for pair in pairs if counts[pair[1]]]
    found = []
    for pair, truth in zip(
        _shuffled(rng, both) + _shuffled(rng, pairs[len(both) :]), _truths(rng, n), strict=False
    ):
        more, fewer = pair if truth else pair[::-1]
        text = f"Are there more {PLURALS[more]} than {PLURALS[fewer]} in the image?"
        found.append(_yes_no("logic", text, truth, category="more"))
    return found


def both_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions "Is there a red star and a blue circle in the image?"."""
    present = sorted({(o.shape, o.color) for o in scene.objects})
    if len(present) < 2:
        return []
    found = []
    for truth in _truths(rng, n):
        first, second = _shuffled(rng, present)[:2]
        if not truth:
            second = _absent_pair(scene, rng, "adversarial")
            if rng.random() < 0.5:
                first, second = second, first
        nouns = [article(f"{color} {shape}") for shape, color in (first, second)]
        text = f"Is there {nouns[0]} and {nouns[1]} in the image?"
        found.append(_yes_no("logic", text, truth, category="both"))
    return found


# --- multiple choice --------------------------------------------------------------------------


def _choice_question(
    rng: Rng, topic: str, text: str, right: str, wrong: Sequence[str], size: float, options: int
) -> SceneQuestion:
    texts = _shuffled(rng, [right, *wrong[: options - 1]])
    return SceneQuestion(
        kind="multiple_choice",
        topic=topic,
        text=text,
        answer=LETTERS[texts.index(right)],
        options=tuple(texts),
        category=topic,
        subject_size=size,
    )


def choice_questions(
    scene: Scene, rng: Rng, n: int, topics: Sequence[str] = (), options: int | None = None
) -> list[SceneQuestion]:
    """Up to n multiple-choice questions of different topics where possible.

    `topics` restricts to some of color, shape, texture, count, position, word.  `options` is their
    number, 2 to 4; without it mostly 4 and sometimes 2 or 3.
    """
    makers: dict[str, Callable[[], list[tuple[str, str, list[str], float]]]] = {
        "color": lambda: _attribute_choices(scene, rng, "color"),
        "shape": lambda: _attribute_choices(scene, rng, "shape"),
        "texture": lambda: _attribute_choices(scene, rng, "texture"),
        "count": lambda: _count_choices(scene, rng),
        "position": lambda: [
            (q.text, q.answer, _shuffled(rng, _other_cells(q.answer)), q.subject_size)
            for q in position_questions(scene, rng, n)
        ],
        "word": lambda: [
            (text, word.text, _confusables(scene, word, rng, 3), word.height)
            for word, text in _word_facts(scene, rng)
        ],
    }
    wanted = _shuffled(rng, topics or tuple(makers))
    pools = {topic: makers[topic]() for topic in wanted}
    found: list[SceneQuestion] = []
    while any(pools.values()) and len(found) < n:
        for topic in wanted:
            if pools[topic] and len(found) < n:
                text, right, wrong, size = pools[topic].pop()
                number = options or (4 if rng.random() < 0.85 else int(rng.integers(2, 4)))
                found.append(_choice_question(rng, topic, text, right, wrong, size, number))
    return found


def _other_cells(right: str) -> list[str]:
    return [cell for row in POSITIONS for cell in row if cell != right]


def _attribute_choices(
    scene: Scene, rng: Rng, attribute: str
) -> list[tuple[str, str, list[str], float]]:
    return [
        (text, value, _shuffled(rng, [v for v in _VALUES[attribute] if v != value]), thing.diameter)
        for thing, _, text, value in _attribute_facts(scene, rng, attribute)[:2]
    ]


def _count_choices(scene: Scene, rng: Rng) -> list[tuple[str, str, list[str], float]]:
    found = []
    for noun, count, size in _drawn_counts(scene, rng, 2):
        near = sorted(
            (v for v in range(MAX_COUNT + 1) if v != count),
            key=lambda v: abs(v - count) + 2 * float(rng.random()),
        )
        text = f"How many {_plural(noun)} are in the image?"
        found.append((text, str(count), [str(v) for v in near[:3]], size))
    return found


# --- captions ---------------------------------------------------------------------------------


def _listed(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _groups(scene: Scene, key: Callable[[SceneObject], str], limit: int) -> list[str]:
    """Like objects counted together, from the largest to the smallest: "two red stars"."""
    order: dict[str, int] = {}
    for thing in sorted(scene.objects, key=lambda o: -o.diameter):
        order[key(thing)] = order.get(key(thing), 0) + 1
    return [
        article(noun) if count == 1 else f"{NUMBER_WORDS[count]} {_plural(noun)}"
        for noun, count in list(order.items())[:limit]
    ]


def _words_phrase(scene: Scene) -> list[str]:
    texts = [word.text for word in sorted(scene.words, key=lambda w: (w.y, w.x))]
    if not texts:
        return []
    return [f"the word{'s' if len(texts) > 1 else ''} {' and '.join(texts)}"]


def captions(scene: Scene) -> tuple[str, ...]:
    """Five descriptions; the first is the canonical one, of at most four groups of objects."""
    ground = BACKGROUND_PHRASES[scene.background.kind]
    words = _words_phrase(scene)
    full = _listed(_groups(scene, lambda o: f"{o.color} {o.shape}", 4) + words)
    brief = _listed(_groups(scene, lambda o: f"{o.color} {o.shape}", 2) + words)
    shapes = _listed(_groups(scene, lambda o: o.shape, 4) + words)
    textured = _listed(_groups(scene, lambda o: f"{o.texture} {o.color} {o.shape}", 3) + words)
    largest = max(scene.objects, key=lambda o: o.diameter)
    main = article(f"{largest.size_name} {largest.color} {largest.shape}")
    return (
        f"{full} on {ground}",
        f"{brief} on {ground}",
        f"{shapes} on {ground}",
        f"{textured} on {ground}",
        _listed([main, *words]) + f" on {ground}",
    )


def caption_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """The one caption question (none for n = 0)."""
    texts = captions(scene)
    question = SceneQuestion(
        "caption", "caption", CAPTION_QUESTION, texts[0], references=texts, category="caption"
    )
    return [question][:n]


# --- the full set -----------------------------------------------------------------------------


def _color_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    return attribute_yes_no(scene, rng, n, "color")


def _shape_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    return attribute_yes_no(scene, rng, n, "shape")


def _texture_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    return attribute_yes_no(scene, rng, n, "texture")


def as_short_answer(question: SceneQuestion) -> SceneQuestion:
    """A yes/no question without its suffix, to be answered by "yes" or "no" in lower case."""
    return replace(
        question,
        kind="short_answer",
        text=question.text.removesuffix(YES_NO_SUFFIX),
        answer=question.answer.lower(),
        references=(question.answer.lower(),),
    )


def verify_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """n yes/no questions of mixed topics in the form of short answers."""
    askers = _shuffled(
        rng,
        (existence_questions, _color_yes_no, _shape_yes_no, relation_questions, both_questions),
    )
    found = [q for asker in askers for q in asker(scene, rng, 1)]
    return [as_short_answer(question) for question in found[:n]]


_FULL_SET: Final[tuple[tuple[Asker, int], ...]] = (
    (existence_questions, 4),
    (color_questions, 1),
    (_color_yes_no, 1),
    (shape_questions, 1),
    (_shape_yes_no, 1),
    (texture_questions, 1),
    (_texture_yes_no, 1),
    (count_questions, 2),
    (count_yes_no, 1),
    (position_questions, 1),
    (half_questions, 1),
    (relation_questions, 2),
    (size_questions, 1),
    (word_questions, 1),
    (word_yes_no, 1),
    (first_letter_questions, 1),
    (background_questions, 1),
    (more_questions, 1),
    (both_questions, 1),
    (choice_questions, 3),
    (caption_questions, 1),
    (either_or_questions, 1),
    (verify_questions, 1),
)


def question_rng(scene: Scene, salt: int = 0) -> Rng:
    """The generator of a scene's questions, independent of the one that made the scene."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([scene.seed, scene.index, 1, salt]))
    )


def ask(
    scene: Scene, rng: Rng | int = 0, topics: Sequence[str] | None = None
) -> list[SceneQuestion]:
    """A balanced set of about 24 questions on one scene, of the given topics or of all.

    `rng` is a generator or a number; the same scene and number give the same questions.
    """
    if topics is not None:
        unknown = [topic for topic in topics if topic not in TOPICS]
        if unknown:
            raise ValueError(f"unknown topic {unknown[0]!r}; known: {', '.join(TOPICS)}")
    generator = question_rng(scene, rng) if isinstance(rng, int) else rng
    questions = [q for asker, n in _FULL_SET for q in asker(scene, generator, n)]
    if topics is None:
        return questions
    return [q for q in questions if q.topic in topics]
