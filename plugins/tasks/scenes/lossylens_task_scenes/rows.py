"""Scenes and questions as rows of seven benchmarks.

The files have the columns, categories and cell formats of the real ones; what the categories mean
is only as near as scenes allow (the README has the table).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

from lossylens_toolkit.photographs import PhotographSet

from lossylens_task_scenes.questions.attributes import (
    attribute_yes_no,
    color_questions,
    either_or_questions,
    shape_questions,
    texture_questions,
)
from lossylens_task_scenes.questions.captioning import captions
from lossylens_task_scenes.questions.choosing import choice_questions
from lossylens_task_scenes.questions.counting import count_questions, count_yes_no
from lossylens_task_scenes.questions.existence import absent_pairs, existence_questions
from lossylens_task_scenes.questions.placing import (
    half_questions,
    position_questions,
    relation_questions,
    size_questions,
)
from lossylens_task_scenes.questions.reading import (
    first_letter_questions,
    word_questions,
    word_yes_no,
)
from lossylens_task_scenes.questions.scene_question import (
    LETTERS,
    YES_NO_SUFFIX,
    Rng,
    SceneQuestion,
    article,
    as_short_answer,
    question_rng,
)
from lossylens_task_scenes.questions.scene_wide import (
    background_questions,
    both_questions,
    more_questions,
)
from lossylens_task_scenes.scene import NOMINAL_SIZE, Scene, make_scene
from lossylens_task_scenes.tsv import Row

Asker = Callable[[Scene, Rng, int], list[SceneQuestion]]

_SALTS: Final[dict[str, int]] = {
    "pope": 101,
    "gqa": 102,
    "mme": 103,
    "mmbench": 104,
    "seedbench": 105,
    "ocrbench": 106,
    "coco-caption": 107,
}
"""Keeps the questions of one benchmark independent of those of another."""


@dataclass(frozen=True)
class SceneSource:
    """Where the scenes come from; `size` in pixels."""

    seed: int
    size: int = NOMINAL_SIZE
    photographs: PhotographSet = "all"

    def __iter__(self) -> Iterator[Scene]:
        """All scenes in order, without end."""
        for index in count():
            yield make_scene(self.seed, index, self.size, self.photographs)


def shared_rows(rows: list[dict[str, str]], scene: Scene, first: int) -> Iterator[Row]:
    """Number the rows of one scene from `first`; the first holds the picture."""
    for k, row in enumerate(rows):
        yield {"index": first + k, "image": scene if k == 0 else first, **row}


# --- POPE -------------------------------------------------------------------------------------

POPE_COLUMNS: Final = ("index", "image", "question", "answer", "category")

POPE_SPLITS: Final = ("random", "popular", "adversarial")


def _pope_scene(scene: Scene, rng: Rng) -> list[dict[str, str]]:
    """Up to three positives, and as many negatives of each split as there are positives.

    A positive belongs to all splits, and so may a negative that several splits came upon.
    """
    present = sorted({(o.shape, o.color) for o in scene.objects})
    positives = [present[k] for k in rng.permutation(len(present))[:3].tolist()]
    pools = {split: absent_pairs(scene, split) for split in POPE_SPLITS}
    number = min(len(positives), *(len(pool) for pool in pools.values()))
    negatives: dict[tuple[str, str], list[str]] = {}
    for split, pool in pools.items():
        for k in rng.permutation(len(pool))[:number].tolist():
            negatives.setdefault(pool[k], []).append(split)
    asked = [(pair, "Yes", list(POPE_SPLITS)) for pair in positives[:number]]
    asked += [(pair, "No", splits) for pair, splits in negatives.items()]
    return [
        {
            "question": f"Is there {article(f'{color} {shape}')} in the image?{YES_NO_SUFFIX}",
            "answer": answer,
            "category": ",".join(splits),
        }
        for (shape, color), answer, splits in asked
    ]


def pope_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Existence questions; every split has as many Yes as No."""
    index = 0
    for scene, _ in zip(source, range(images), strict=False):
        rows = _pope_scene(scene, question_rng(scene, _SALTS["pope"]))
        yield from shared_rows(rows, scene, index)
        index += len(rows)


# --- GQA --------------------------------------------------------------------------------------

GQA_COLUMNS: Final = ("index", "image", "question", "answer", "category")

GQA_CATEGORIES: Final = ("choose", "compare", "logical", "query", "verify")


def _gqa_scene(scene: Scene, rng: Rng) -> list[dict[str, str]]:
    query: tuple[Asker, ...] = (
        color_questions,
        shape_questions,
        texture_questions,
        count_questions,
        position_questions,
    )
    verify: tuple[Asker, ...] = (existence_questions, relation_questions)
    asked = [("query", q) for asker in query for q in asker(scene, rng, 1)]
    asked += [("verify", as_short_answer(q)) for asker in verify for q in asker(scene, rng, 1)]
    asked += [("compare", as_short_answer(q)) for q in size_questions(scene, rng, 1)]
    asked += [("logical", as_short_answer(q)) for q in both_questions(scene, rng, 1)]
    asked += [("choose", q) for q in either_or_questions(scene, rng, 1)]
    return [{"question": q.text, "answer": q.answer, "category": category} for category, q in asked]


def gqa_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Questions answered by one word, or the two words of a position."""
    index = 0
    for scene, _ in zip(source, range(images), strict=False):
        rows = _gqa_scene(scene, question_rng(scene, _SALTS["gqa"]))
        yield from shared_rows(rows, scene, index)
        index += len(rows)


# --- MME --------------------------------------------------------------------------------------

MME_COLUMNS: Final = ("index", "image", "question", "answer", "category", "image_path")


def _plate_word_yes_no(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
    if not scene.words or any(word.plate is None for word in scene.words):
        return []
    return word_yes_no(scene, rng, n)


MME_ASKERS: Final[dict[str, Asker]] = {
    "existence": existence_questions,
    "count": count_yes_no,
    "position": relation_questions,
    "color": partial(attribute_yes_no, attribute="color"),
    "posters": _plate_word_yes_no,
    "celebrity": partial(attribute_yes_no, attribute="shape"),
    "scene": background_questions,
    "landmark": half_questions,
    "artwork": partial(attribute_yes_no, attribute="texture"),
    "OCR": word_yes_no,
    "commonsense_reasoning": size_questions,
    "numerical_calculation": more_questions,
    "text_translation": first_letter_questions,
    "code_reasoning": both_questions,
}
"""What each category of MME asks about a scene."""


class _Quota:
    """How many images each category still needs: as equal as can be, the first ones one more."""

    def __init__(self, categories: Sequence[str], images: int) -> None:
        share, rest = divmod(images, len(categories))
        self.left = {name: share + (k < rest) for k, name in enumerate(categories)}

    def __bool__(self) -> bool:
        return any(self.left.values())

    def neediest(self) -> list[str]:
        """Unfinished categories, those that lack most first."""
        open_ones = [name for name, left in self.left.items() if left]
        return sorted(open_ones, key=lambda name: -self.left[name])


def mme_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Two questions for each image, one with the answer Yes and one with No."""
    quota = _Quota(tuple(MME_ASKERS), images)
    scenes = iter(source)
    index = 0
    while quota:
        scene = next(scenes)
        rng = question_rng(scene, _SALTS["mme"])
        for category in quota.neediest():
            pair = MME_ASKERS[category](scene, rng, 2)
            if len(pair) != 2 or pair[0].text == pair[1].text:
                continue
            quota.left[category] -= 1
            shared = {"category": category, "image_path": f"{category}/{scene.index:06d}.png"}
            rows = [{"question": q.text, "answer": q.answer, **shared} for q in pair]
            yield from shared_rows(rows, scene, index)
            index += 2
            break


# --- MMBench ----------------------------------------------------------------------------------

MMBENCH_COLUMNS: Final = (
    "index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source",
    "l2-category", "comment", "split",
)  # fmt: skip

CIRCULAR_STEP: Final = 1_000_000

_INSTANCE = "finegrained_perception (instance-level)"
_CROSS = "finegrained_perception (cross-instance)"


def _choice_of(topic: str) -> Asker:
    return partial(choice_questions, topics=(topic,))


def _yes_no_choice(asker: Asker) -> Asker:
    """The yes/no questions of `asker` as a choice between the options Yes and No."""

    def ask(scene: Scene, rng: Rng, n: int) -> list[SceneQuestion]:
        found = []
        for question in asker(scene, rng, n):
            options = ("Yes", "No") if rng.random() < 0.5 else ("No", "Yes")
            found.append(
                SceneQuestion(
                    kind="multiple_choice",
                    topic=question.topic,
                    text=question.text.removesuffix(YES_NO_SUFFIX),
                    answer=LETTERS[options.index(question.answer)],
                    options=options,
                    subject_size=question.subject_size,
                )
            )
        return found

    return ask


MMBENCH_ASKERS: Final[dict[str, tuple[str, Asker]]] = {
    "image_style": ("coarse_perception", _yes_no_choice(background_questions)),
    "attribute_recognition": (_INSTANCE, _choice_of("color")),
    "object_localization": (_INSTANCE, _choice_of("position")),
    "ocr": (_INSTANCE, _choice_of("word")),
    "spatial_relationship": (_CROSS, _yes_no_choice(relation_questions)),
    "attribute_comparison": (_CROSS, _yes_no_choice(size_questions)),
    "structuralized_imagetext_understanding": ("logic_reasoning", _choice_of("count")),
    "physical_relation": ("relation_reasoning", _yes_no_choice(half_questions)),
    "physical_property_reasoning": ("attribute_reasoning", _choice_of("texture")),
    "identity_reasoning": ("attribute_reasoning", _choice_of("shape")),
}
"""Leaf category to its level-2 category and to what it asks about a scene."""


def circular_copies(question: SceneQuestion) -> list[tuple[tuple[str, ...], str]]:
    """(options, answer letter) of the question itself and of its cyclic shifts."""
    right = question.options[LETTERS.index(question.answer)]
    copies = []
    for k in range(len(question.options)):
        options = question.options[k:] + question.options[:k]
        copies.append((options, LETTERS[options.index(right)]))
    return copies


def mmbench_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """One question for each image, followed by its circular copies."""
    quota = _Quota(tuple(MMBENCH_ASKERS), images)
    scenes = iter(source)
    index = 0
    while quota:
        scene = next(scenes)
        rng = question_rng(scene, _SALTS["mmbench"])
        for category in quota.neediest():
            level2, asker = MMBENCH_ASKERS[category]
            questions = asker(scene, rng, 1)
            if not questions:
                continue
            quota.left[category] -= 1
            for k, (options, answer) in enumerate(circular_copies(questions[0])):
                padded = (*options, "", "", "")
                yield {
                    "index": index + k * CIRCULAR_STEP,
                    "question": questions[0].text,
                    "hint": "",
                    **dict(zip(LETTERS, padded, strict=False)),
                    "answer": answer,
                    "category": category,
                    "image": scene if k == 0 else index,
                    "source": "lossylens-scenes",
                    "l2-category": level2,
                    "comment": "",
                    "split": "dev",
                }
            index += 1
            break


# --- SEEDBench --------------------------------------------------------------------------------

SEEDBENCH_COLUMNS: Final = (
    "index", "image", "question", "A", "B", "C", "D", "answer", "category",
)  # fmt: skip

SEEDBENCH_CATEGORIES: Final[dict[str, str]] = {
    "color": "Instance Attributes",
    "texture": "Instance Attributes",
    "shape": "Instance Identity",
    "count": "Instances Counting",
    "position": "Instance Location",
    "word": "Text Understanding",
}
"""Topic to category.  Scene Understanding, Spatial Relation, Instance Interaction and Visual
Reasoning stay without questions: scenes have nothing with four options that deserves the name."""


def seedbench_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Up to six multiple-choice questions for each image, always with four options."""
    index = 0
    for scene, _ in zip(source, range(images), strict=False):
        rng = question_rng(scene, _SALTS["seedbench"])
        rows = []
        for topic, category in SEEDBENCH_CATEGORIES.items():
            for q in choice_questions(scene, rng, 1, topics=(topic,), options=4):
                options = dict(zip(LETTERS, q.options, strict=True))
                rows.append(
                    {"question": q.text, **options, "answer": q.answer, "category": category}
                )
        yield from shared_rows(rows, scene, index)
        index += len(rows)


# --- OCRBench ---------------------------------------------------------------------------------

OCRBENCH_COLUMNS: Final = ("index", "image", "question", "answer", "category")


def _ocr_fits(scene: Scene, category: str) -> bool:
    """Whether the words of a scene are of the kind that a category is about."""
    words = scene.words
    if category == "Scene Text-centric VQA":
        return len(words) == 2
    if category == "Doc-oriented VQA":
        return len(words) == 2 and all(word.plate is not None for word in words)
    if category == "Key Information Extraction":
        return len(words) == 2 and {word.kind for word in words} != {"word"}
    if len(words) != 1:
        return False
    word = words[0]
    plain = word.kind == "word"
    return {
        "Regular Text Recognition": plain and word.plate is not None and not word.angle,
        "Irregular Text Recognition": plain and bool(word.angle),
        "Artistic Text Recognition": plain and word.plate is None and not word.angle,
        "Handwriting Recognition": plain and word.font == "italic",
        "Digit String Recognition": word.kind == "digits",
        "Non-Semantic Text Recognition": word.kind == "letters",
        # Nothing in a scene is an expression; digit strings at least hold no spelling to guess.
        "Handwritten Mathematical Expression Recognition": word.kind == "digits",
    }[category]


OCRBENCH_CATEGORIES: Final = (
    "Regular Text Recognition",
    "Irregular Text Recognition",
    "Artistic Text Recognition",
    "Handwriting Recognition",
    "Digit String Recognition",
    "Non-Semantic Text Recognition",
    "Scene Text-centric VQA",
    "Doc-oriented VQA",
    "Key Information Extraction",
    "Handwritten Mathematical Expression Recognition",
)


def ocrbench_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """One question for each image; answers are written as a Python list."""
    quota = _Quota(OCRBENCH_CATEGORIES, images)
    scenes = iter(source)
    index = 0
    while quota:
        scene = next(scenes)
        fitting = [name for name in quota.neediest() if _ocr_fits(scene, name)]
        questions = word_questions(scene, question_rng(scene, _SALTS["ocrbench"]), 1)
        if not fitting or not questions:
            continue
        quota.left[fitting[0]] -= 1
        yield {
            "index": index,
            "image": scene,
            "question": questions[0].text,
            "answer": repr([questions[0].answer]),
            "category": fitting[0],
        }
        index += 1


# --- COCO captions ----------------------------------------------------------------------------

COCO_COLUMNS: Final = ("index", "image", "answer")


def coco_rows(source: SceneSource, images: int) -> Iterator[Row]:
    """Five captions for each image; there is no question column, as in the real file."""
    for scene, index in zip(source, range(images), strict=False):
        yield {"index": index, "image": scene, "answer": repr(list(captions(scene)))}
