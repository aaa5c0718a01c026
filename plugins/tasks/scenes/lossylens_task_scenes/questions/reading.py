"""What is written."""

from __future__ import annotations

from functools import lru_cache

from lossylens_task_scenes.questions.scene_question import (
    Rng,
    SceneQuestion,
    balanced_truths,
    pick,
    shuffled,
    yes_no_question,
)
from lossylens_task_scenes.scene import Scene, Word
from lossylens_task_scenes.vocabulary import CONSONANTS, WORDS


def _distance(a: str, b: str) -> float:
    """How different two words look: letters that differ in place, and the length."""
    return sum(x != y for x, y in zip(a, b, strict=False)) + 0.75 * abs(len(a) - len(b))


@lru_cache(maxsize=256)
def similar_words(text: str, count: int = 8) -> tuple[str, ...]:
    """Words of the closed list that look most like `text`, without it."""
    others = [word for word in WORDS if word != text]
    return tuple(sorted(others, key=lambda word: (_distance(text, word), word))[:count])


def confusables(scene: Scene, word: Word, rng: Rng, count: int) -> list[str]:
    """Different texts that are not in the image and could be taken for `word`."""
    present = {w.text for w in scene.words}
    if word.kind == "word":
        near = [text for text in similar_words(word.text) if text not in present]
        return shuffled(rng, near)[:count]
    alphabet = "123456789" if word.kind == "digits" else CONSONANTS
    found: list[str] = []
    while len(found) < count:
        at = int(rng.integers(len(word.text)))
        text = word.text[:at] + pick(rng, alphabet) + word.text[at + 1 :]
        if text not in present and text not in found:
            found.append(text)
    return found


def word_facts(scene: Scene, rng: Rng) -> list[tuple[Word, str]]:
    """Words that can be asked for, each with the question that it answers."""
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
    return shuffled(rng, facts)


def word_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions to read a word; the answer is in upper case, as written."""
    return [
        SceneQuestion("open", "word", text, word.text, category=word.kind, subject_size=word.height)
        for word, text in word_facts(scene, rng)[:n]
    ]


def word_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions whether a word is written; the wrong words look like the right ones."""
    found = []
    words = shuffled(rng, scene.words)
    for k, truth in enumerate(balanced_truths(rng, n) if words else []):
        word = words[k % len(words)]
        said = word.text if truth else confusables(scene, word, rng, 1)[0]
        text = f"Is the word {said} written in the image?"
        found.append(yes_no_question("word", text, truth, word.height, word.kind))
    return found


def first_letter_questions(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    """Up to n questions for the first letter of the only word of a scene."""
    if len(scene.words) != 1 or scene.words[0].kind == "digits":
        return []
    word = scene.words[0]
    found = []
    for truth in balanced_truths(rng, n):
        letter = word.text[0]
        if not truth:
            letter = pick(rng, [other[0] for other in WORDS if other[0] != letter])
        text = f"Does the word in the image start with {letter}?"
        found.append(yes_no_question("word", text, truth, word.height, "first letter"))
    return found
