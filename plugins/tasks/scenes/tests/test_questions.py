"""Answers are checked by reading the question text again and looking into the scene."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens_task_scenes.questions.captioning import CAPTION_QUESTION
from lossylens_task_scenes.questions.existence import ALL_SPLITS
from lossylens_task_scenes.questions.full_set import ask
from lossylens_task_scenes.questions.reading import similar_words
from lossylens_task_scenes.questions.scene_question import (
    LETTERS,
    TOPICS,
    YES_NO_SUFFIX,
    SceneQuestion,
)
from lossylens_task_scenes.scene import Scene, SceneObject, make_scene
from lossylens_task_scenes.vocabulary import (
    BACKGROUND_PHRASES,
    COLORS,
    PLURALS,
    POPULAR,
    POSITIONS,
    SHAPES,
    TEXTURES,
    WORDS,
)

SINGULARS = {plural: singular for singular, plural in PLURALS.items()}
CELLS = [cell for row in POSITIONS for cell in row]

# --- an independent reading of the questions ---------------------------------------------------


def matching(scene: Scene, noun: str) -> list[SceneObject]:
    """Objects that a noun phrase without article fits."""
    *adjectives, head = noun.split(" ")
    head = SINGULARS.get(head, head)
    return [
        thing
        for thing in scene.objects
        if (head in ("object", thing.shape))
        and all(adjective in (thing.color, thing.texture) for adjective in adjectives)
    ]


def the(scene: Scene, noun: str) -> SceneObject:
    found = matching(scene, noun)
    assert len(found) == 1, f"{noun!r} fits {len(found)} objects"
    return found[0]


def place(scene: Scene, noun: str) -> tuple[float, float]:
    if noun.startswith("word "):
        (word,) = [word for word in scene.words if word.text == noun.removeprefix("word ")]
        return word.x, word.y
    thing = the(scene, noun)
    return thing.x, thing.y


def described(scene: Scene, noun: str, value: str) -> bool:
    value = re.sub(r"^an? ", "", value)
    thing = the(scene, noun)
    assert value in COLORS + SHAPES + TEXTURES
    return value in (thing.color, thing.shape, thing.texture)


def in_half(scene: Scene, noun: str, half: str) -> bool:
    x, y = place(scene, noun)
    return {
        "left": x < scene.width / 2,
        "right": x > scene.width / 2,
        "top": y < scene.height / 2,
        "bottom": y > scene.height / 2,
    }[half]


def related(scene: Scene, a: str, relation: str, b: str) -> bool:
    one, other = the(scene, a), the(scene, b)
    return {
        "to the left of": one.x < other.x,
        "to the right of": one.x > other.x,
        "above": one.y < other.y,
        "below": one.y > other.y,
        "larger than": one.radius > other.radius,
    }[relation]


def text_at(scene: Scene, where: str) -> str:
    key: Callable[..., float] = {
        "at the top": lambda word: word.y,
        "at the bottom": lambda word: -word.y,
        "on the left": lambda word: word.x,
        "on the right": lambda word: -word.x,
    }[where]
    assert len(scene.words) == 2
    return min(scene.words, key=key).text


def cell(scene: Scene, noun: str) -> str:
    x, y = place(scene, noun)
    return POSITIONS[int(3 * y / scene.height)][int(3 * x / scene.width)]


def only_text(scene: Scene) -> str:
    (word,) = scene.words
    return word.text


def either(scene: Scene, noun: str, first: str, second: str) -> str:
    fits = [v for v in (first, second) if described(scene, noun, v)]
    assert len(fits) == 1
    return re.sub(r"^an? ", "", fits[0])


_RELATION = "(to the left of|to the right of|above|below|larger than)"

READERS: list[tuple[str, Callable[..., object]]] = [
    (
        r"Is there an? (\w+ \w+) and an? (\w+ \w+) in the image\?",
        lambda s, a, b: bool(matching(s, a) and matching(s, b)),
    ),
    (r"Is there 1 (.+) in the image\?", lambda s, noun: len(matching(s, noun)) == 1),
    (r"Is there an? (.+) in the image\?", lambda s, noun: bool(matching(s, noun))),
    (
        r"Are there (\d) (.+) in the image\?",
        lambda s, n, noun: len(matching(s, noun)) == int(n),
    ),
    (
        r"Are there more (\w+) than (\w+) in the image\?",
        lambda s, a, b: len(matching(s, a)) > len(matching(s, b)),
    ),
    (r"How many (.+) are in the image\?", lambda s, noun: len(matching(s, noun))),
    (r"What color is the (.+)\?", lambda s, noun: the(s, noun).color),
    (r"What shape is the (.+)\?", lambda s, noun: the(s, noun).shape),
    (r"What texture is the (.+)\?", lambda s, noun: the(s, noun).texture),
    (r"Where is the (.+) in the image\?", cell),
    (r"Is the (.+) in the (\w+) half of the image\?", in_half),
    (r"Is the word (\w+) written in the image\?", lambda s, t: t in {w.text for w in s.words}),
    (
        r"Does the word in the image start with (\w)\?",
        lambda s, letter: only_text(s)[0] == letter,
    ),
    (r"What is written in the image\?", only_text),
    (r"What word is (.+)\?", text_at),
    (
        r"Is the background (.+)\?",
        lambda s, phrase: phrase == BACKGROUND_PHRASES[s.background.kind],
    ),
    (rf"Is the (.+) {_RELATION} the (.+)\?", related),
    (r"Is the ([\w ]+?) ((?:an? )?\w+) or ((?:an? )?\w+)\?", either),
    (r"Is the (.+?) ((?:an? )?\w+)\?", described),
]


def truth(scene: Scene, question: SceneQuestion) -> str:
    """The answer as this module reads the question, in words (not as a letter)."""
    text = question.text.removesuffix(YES_NO_SUFFIX)
    for pattern, reader in READERS:
        match = re.fullmatch(pattern, text)
        if match:
            value = reader(scene, *match.groups())
            if isinstance(value, bool):
                short = question.kind == "short_answer"
                return ("yes" if value else "no") if short else ("Yes" if value else "No")
            return str(value)
    raise AssertionError(f"no reader for {text!r}")


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 1000))
@settings(max_examples=120, deadline=None)
def test_answers_are_true(seed: int, index: int, salt: int) -> None:
    scene = make_scene(seed, index)
    for question in ask(scene, salt):
        if question.kind == "caption":
            continue
        answer = question.answer
        if question.kind == "multiple_choice":
            assert len(set(question.options)) == len(question.options) in (2, 3, 4)
            answer = question.options[LETTERS.index(answer)]
        else:
            assert not question.options
            assert question.references == (answer,)
        assert answer == truth(scene, question), question


@given(st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_forms(index: int) -> None:
    scene = make_scene(4, index)
    questions = ask(scene)
    # Where all objects are alike, little is unique enough to be asked about.
    assert 8 <= len(questions) <= 30
    for question in questions:
        assert question.topic in TOPICS
        assert question.subject_size >= 0
        if question.kind == "yes_no":
            assert question.text.endswith("? Please answer yes or no.")
            assert question.answer in ("Yes", "No")
        else:
            assert "yes or no" not in question.text
            assert "single word" not in question.text
        if question.kind == "short_answer":
            vocabulary = {*COLORS, *SHAPES, *TEXTURES, *CELLS, "yes", "no", *"0123456"}
            assert question.answer in vocabulary
        if question.kind == "open":
            assert question.answer in {word.text for word in scene.words}


def test_captions(scenes: list[Scene]) -> None:
    for scene in scenes[:100]:
        (question,) = [q for q in ask(scene) if q.kind == "caption"]
        assert question.text == CAPTION_QUESTION
        assert question.text.endswith('"This image depicts". ')
        assert len(question.references) == 5
        assert question.answer == question.references[0]
        for text in question.references:
            assert text.endswith(f" on {BACKGROUND_PHRASES[scene.background.kind]}")
            assert all(word.text in text for word in scene.words)
        largest = max(scene.objects, key=lambda thing: thing.diameter)
        assert largest.color in question.answer
        assert largest.shape in question.answer


def test_yes_and_no_are_balanced_in_every_topic(scenes: list[Scene]) -> None:
    answers: dict[str, Counter[str]] = {}
    for scene in scenes:
        for question in ask(scene):
            if question.kind == "yes_no":
                answers.setdefault(question.topic, Counter())[question.answer] += 1
    for topic, counts in answers.items():
        assert 0.42 < counts["Yes"] / counts.total() < 0.58, topic


def test_short_answers_are_spread(scenes: list[Scene]) -> None:
    answers: dict[str, Counter[str]] = {}
    for scene in scenes:
        for question in ask(scene):
            if question.kind == "short_answer" and question.answer not in ("yes", "no"):
                answers.setdefault(question.topic, Counter())[question.answer] += 1
    for topic, values in (("color", COLORS), ("shape", SHAPES), ("texture", TEXTURES)):
        assert set(answers[topic]) == set(values)
        assert max(answers[topic].values()) < 2.2 * min(answers[topic].values())
    assert set(answers["position"]) == set(CELLS)
    assert set(answers["count"]) == set("0123456")
    assert max(answers["count"].values()) < 0.3 * answers["count"].total()


def test_letters_of_the_right_option_are_spread(scenes: list[Scene]) -> None:
    letters = Counter(
        q.answer for s in scenes for q in ask(s) if q.kind == "multiple_choice" and q.options[3:]
    )
    assert max(letters.values()) < 1.3 * min(letters[letter] for letter in LETTERS)


def test_negatives_of_existence_are_what_they_are_called(scenes: list[Scene]) -> None:
    seen: Counter[str] = Counter()
    for scene in scenes:
        shapes = {thing.shape for thing in scene.objects}
        colors = {thing.color for thing in scene.objects}
        for question in ask(scene, topics=["existence"]):
            if question.kind != "yes_no":
                continue
            seen[question.category] += 1
            if question.answer == "Yes":
                assert question.category == ALL_SPLITS
                continue
            match = re.match(r"Is there an? (?:(\w+) )?(\w+) in", question.text)
            assert match
            color, shape = match.groups()
            if question.category == "popular":
                assert POPULAR[shape] == color
            elif question.category == "adversarial":
                assert shape in shapes or color in colors
    assert seen[ALL_SPLITS] > 2 * min(seen["random"], seen["popular"], seen["adversarial"]) > 0


def test_sizes_of_subjects(scenes: list[Scene]) -> None:
    for scene in scenes[:100]:
        for question in ask(scene, topics=["color", "shape", "texture"]):
            assert question.subject_size in {thing.diameter for thing in scene.objects}
        for question in ask(scene, topics=["word"]):
            assert question.subject_size in {word.height for word in scene.words}


def test_same_questions_again_and_others_with_another_number() -> None:
    scene = make_scene(8, 8)
    assert ask(scene) == ask(scene) == ask(scene, 0)
    assert ask(scene, 1) != ask(scene)


def test_topics() -> None:
    scene = make_scene(8, 9)
    assert {q.topic for q in ask(scene, topics=["color", "count"])} == {"color", "count"}
    with pytest.raises(ValueError, match="unknown topic 'colour'"):
        ask(scene, topics=["colour"])


def test_similar_words() -> None:
    assert "BALL" not in similar_words("BALL")
    assert set(similar_words("CAT")) <= set(WORDS)
    assert {"CAR", "HAT"} <= set(similar_words("CAT"))
