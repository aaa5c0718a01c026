"""Training rows: a scene, and as many of its questions as fit behind its picture.

A row is one sequence: the picture's prefix, then the questions one after
another.  The attention mask lets every question see the prefix and itself, so
the picture is computed once for all of them, as in answering.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lossylens.vlm import default_prompt
from lossylens_task_scenes.questions.attributes import (
    color_questions,
    shape_questions,
    texture_questions,
)
from lossylens_task_scenes.questions.choosing import choice_questions
from lossylens_task_scenes.questions.counting import count_questions, count_yes_no
from lossylens_task_scenes.questions.existence import existence_questions
from lossylens_task_scenes.questions.full_set import ask
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
from lossylens_task_scenes.questions.scene_question import SceneQuestion
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import Box, Scene, make_scene
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedTokenizerBase

from lossylens_vlm_nano.architecture import IMAGE_PAD, MERGE, PATCH, SIDE
from lossylens_vlm_nano.prompt import prompt_prefix, prompt_suffix
from lossylens_vlm_nano.training.targets import dense_targets

#: Training scenes come from these seeds; evaluation uses seeds below 1000.
TRAIN_SEED = 1_000_003
CROWD_SEED = 1_000_033
HELD_OUT_SEED = 11

IGNORED = -100
_PADDING = -1


def wording(question: SceneQuestion) -> str:
    """Return the reference evaluator's generic wording of a scene question."""
    return default_prompt(question.structured())


@dataclass(frozen=True)
class Batch:
    """Rows of equal length.

    Attributes:
        images: uint8 (drawn rows, 3, H, W).
        tokens: (B, T).
        positions: (3, B, T), Qwen2.5-VL's multimodal positions.
        segments: (B, T); 0 the prefix, k the k-th question, -1 padding.
        labels: (B, T), the next token where it is an answer's, else -100.
        weights: (B, T), weight of each label.
        dense: (B, cells, channels), see :mod:`targets`.
        topics: per row, the topic of each question.
        numbers: (B,), the number of each scene.
    """

    images: Tensor
    tokens: Tensor
    positions: Tensor
    segments: Tensor
    labels: Tensor
    weights: Tensor
    dense: Tensor
    topics: list[list[str]]
    numbers: Tensor


def prefix_positions(prefix: list[int], image_token: int, side: int = SIDE) -> tuple[Tensor, int]:
    """Return positions (3, P) of the prefix and the next text position."""
    cells = side // (PATCH * MERGE)
    first = prefix.index(image_token)
    after = first + cells**2
    positions = torch.arange(len(prefix)).repeat(3, 1)
    cell = torch.arange(cells**2)
    positions[0, first:after] = first
    positions[1, first:after] = first + cell // cells
    positions[2, first:after] = first + cell % cells
    tail = len(prefix) - after
    positions[:, after:] = first + cells + torch.arange(tail)
    return positions, first + cells + tail


@dataclass(frozen=True)
class RowPrefix:
    """What precedes all questions of a row.

    Attributes:
        ids: token ids, P of them.
        positions: (3, P), or alike on all axes where the model has one.
        start: position of the token that follows.
    """

    ids: list[int]
    positions: Tensor
    start: int


def nano_prefix(tokenizer: PreTrainedTokenizerBase) -> RowPrefix:
    """Return what precedes questions that nano is asked about a training picture."""
    cells = (SIDE // (PATCH * MERGE)) ** 2
    ids = tokenizer.encode(prompt_prefix(cells), add_special_tokens=False)
    image_token: Any = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    return RowPrefix(ids, *prefix_positions(ids, image_token))


class RowBuilder:
    """Turns scenes into rows of *length* tokens.

    Args:
        tokenizer: of the model.
        length: of a row.
        prefix: what precedes the questions; by default nano's.
        draw: scene to picture, uint8 (3, H, W); by default as it is rendered.
        targets: scene to dense targets.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        length: int,
        prefix: RowPrefix | None = None,
        draw: Callable[[Scene], Tensor] | None = None,
        targets: Callable[[Scene], NDArray[np.uint8]] = dense_targets,
    ) -> None:
        self.tokenizer = tokenizer
        self.length = length
        self.prefix = prefix or nano_prefix(tokenizer)
        self.draw = draw or picture
        self.targets = targets
        self.end = tokenizer.eos_token_id

    def _encode(self, question: SceneQuestion) -> tuple[list[int], list[int]]:
        suffix = prompt_suffix(wording(question))
        asked = self.tokenizer.encode(suffix, add_special_tokens=False)
        answer = self.tokenizer.encode(question.answer, add_special_tokens=False)
        return asked, [*answer, self.end]

    def row(
        self,
        scene: Scene,
        questions: list[SceneQuestion],
        number: int = 0,
        drawn: bool = True,
    ) -> dict[str, object]:
        """Build one row from *scene* and the first of *questions* that fit.

        Unless it is *drawn*, it has no picture.
        """
        tokens = list(self.prefix.ids)
        segments = [0] * len(tokens)
        positions = [self.prefix.positions]
        labels = [IGNORED] * len(tokens)
        weights = [0.0] * len(tokens)
        topics: list[str] = []
        for question in questions:
            asked, answer = self._encode(question)
            size = len(asked) + len(answer) - 1
            if len(tokens) + size > self.length:
                continue
            topics.append(question.topic if not question.options else "choice")
            tokens += asked + answer[:-1]
            segments += [len(topics)] * size
            positions.append((self.prefix.start + torch.arange(size)).repeat(3, 1))
            labels += [IGNORED] * (len(asked) - 1) + answer
            weights += [0.0] * (len(asked) - 1) + [len(answer) ** -0.5] * len(answer)
        padding = self.length - len(tokens)
        positions.append(torch.zeros(3, padding, dtype=torch.long))
        return {
            "images": [self.draw(scene)] if drawn else [],
            "tokens": torch.tensor(tokens + [self.end] * padding),
            "positions": torch.cat(positions, dim=1),
            "segments": torch.tensor(segments + [_PADDING] * padding),
            "labels": torch.tensor(labels + [IGNORED] * padding),
            "weights": torch.tensor(weights + [0.0] * padding),
            "dense": torch.from_numpy(self.targets(scene)),
            "topics": topics,
            "number": torch.tensor(number),
        }


def picture(scene: Scene) -> Tensor:
    """Return the rendered scene, uint8 (3, H, W)."""
    return torch.from_numpy(np.asarray(render(scene)).copy()).permute(2, 0, 1)


def collate(rows: list[dict[str, object]]) -> Batch:
    """Stack rows into a batch."""

    def stack(key: str, dim: int = 0) -> Tensor:
        return torch.stack([row[key] for row in rows], dim=dim)  # type: ignore[misc]

    return Batch(
        images=torch.stack([image for row in rows for image in row["images"]]),  # type: ignore[attr-defined]
        tokens=stack("tokens"),
        positions=stack("positions", 1),
        segments=stack("segments"),
        labels=stack("labels"),
        weights=stack("weights"),
        dense=stack("dense"),
        topics=[row["topics"] for row in rows],  # type: ignore[misc]
        numbers=stack("number"),
    )


def made_ahead(scenes: IterableDataset[Batch]) -> DataLoader[Batch]:
    """Return the batches of *scenes*, made ahead by a process of its own."""
    return DataLoader(
        scenes, batch_size=None, num_workers=1, prefetch_factor=8, worker_init_fn=_stop_later
    )


def _stop_later(number: int) -> None:
    """Pass over a SIGTERM that is meant for the training, which then ends this process.

    Who stops a group of processes sends it to all, and the training, which needs a moment to
    write its state, must not find its data gone.  The next one ends the process.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def questions_of(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Return the scene's questions in random order, multiple choice first.

    Multiple choice comes first so that it always finds room in a row: it is long, and
    learned last.  A caption is asked for in one scene of five.
    """
    questions = ask(scene, rng)
    rng.shuffle(questions)  # type: ignore[arg-type]
    if rng.random() < 0.8:
        questions = [question for question in questions if question.kind != "caption"]
    return sorted(questions, key=lambda question: not question.options)


def looking_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Return questions whose answer is read off one cell."""
    questions = [
        *color_questions(scene, rng, 6),
        *shape_questions(scene, rng, 6),
        *texture_questions(scene, rng, 2),
        *position_questions(scene, rng, 2),
    ]
    rng.shuffle(questions)  # type: ignore[arg-type]
    return questions


def searching_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Return questions that take all cells into account, and some that do not."""
    questions = [
        *looking_questions(scene, rng)[:5],
        *existence_questions(scene, rng, 6),
        *count_questions(scene, rng, 2),
        *word_questions(scene, rng, 2),
    ]
    rng.shuffle(questions)  # type: ignore[arg-type]
    return questions


def choosing_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Return multiple-choice questions, and others in the room that they leave."""
    topics = ("color", "shape", "texture", "count")
    return [*choice_questions(scene, rng, 5, topics), *searching_questions(scene, rng)]


def placing_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Return questions for places, and some others that are read off one cell."""
    questions = [
        *position_questions(scene, rng, 5),
        *position_questions(scene, rng, 5),
        *half_questions(scene, rng, 4),
        *relation_questions(scene, rng, 3),
        *looking_questions(scene, rng)[:3],
    ]
    rng.shuffle(questions)  # type: ignore[arg-type]
    return questions


def practice_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Return the scene's questions or, more often, those that are learned slowest."""
    drawn = rng.random()
    if drawn < 0.4:
        return questions_of(scene, rng)
    if drawn < 0.75:
        return placing_questions(scene, rng)
    questions = [
        *choice_questions(scene, rng, 4),
        *count_questions(scene, rng, 3),
        *count_yes_no(scene, rng, 1),
        *position_questions(scene, rng, 3),
        *half_questions(scene, rng, 2),
        *relation_questions(scene, rng, 3),
        *size_questions(scene, rng, 1),
        *word_questions(scene, rng, 2),
        *word_yes_no(scene, rng, 1),
        *first_letter_questions(scene, rng, 1),
    ]
    rng.shuffle(questions)  # type: ignore[arg-type]
    return questions


#: What is asked in each lesson; yes/no questions alone teach to look very slowly, and
#: among many others multiple choice is learned very slowly.
LESSONS = (
    looking_questions,
    searching_questions,
    choosing_questions,
    questions_of,
    practice_questions,
)


def crowded(scene: Scene, others: Iterable[Scene]) -> Scene:
    """Return *scene* with what finds room in it of *others*.

    Two to three times as many things in a picture teach the vision encoder as
    much faster; questions are not asked about such scenes.
    """
    objects, words = list(scene.objects), list(scene.words)

    def has_room(box: Box) -> bool:
        taken = [thing.box for thing in objects] + [word.box for word in words]
        return all(_apart(box, other) for other in taken)

    for other in others:
        objects += [thing for thing in other.objects if has_room(thing.box)]
        words += [word for word in other.words if has_room(word.box)]
    return replace(scene, objects=tuple(objects), words=tuple(words))


def _apart(a: Box, b: Box) -> bool:
    return a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


class CrowdedScenes(IterableDataset[Batch]):
    """An endless stream of batches of crowded scenes without questions."""

    def __init__(self, builder: RowBuilder, batch: int, start: int) -> None:
        self.builder = builder
        self.batch = batch
        self.start = start

    def __iter__(self) -> Iterator[Batch]:
        for first in itertools.count(self.start, self.batch):
            yield collate([self._row(index) for index in range(first, first + self.batch)])

    def _row(self, index: int) -> dict[str, object]:
        others = (make_scene(CROWD_SEED, 4 * index + i) for i in range(4))
        return self.builder.row(crowded(make_scene(TRAIN_SEED, index), others), [])


class AskedScenes(IterableDataset[Batch]):
    """An endless stream of batches of scenes with questions.

    Only the first *fresh* rows of a batch are new scenes; the others repeat some of the
    last *memory* scenes with other questions, and have no picture to render (their
    features are remembered, see :mod:`text`).

    Attributes:
        lesson: what is asked, one of :data:`LESSONS`.  Shared with the worker process,
            so that it can be changed on the way.
    """

    def __init__(
        self, builder: RowBuilder, batch: int, start: int, fresh: int | None = None, memory: int = 0
    ) -> None:
        self.builder = builder
        self.batch = batch
        self.fresh = batch if fresh is None else fresh
        self.memory = memory
        self.start = start
        self.lesson = torch.zeros(1, dtype=torch.long).share_memory_()

    def __iter__(self) -> Iterator[Batch]:
        for first in itertools.count(self.start, self.fresh):
            rng = np.random.default_rng([TRAIN_SEED, first, 2])
            new = list(range(first, first + self.fresh))
            oldest = max(self.start, first - self.memory + self.fresh)
            old = [int(rng.integers(oldest, first + 1)) for _ in range(self.batch - self.fresh)]
            rows = [self._row(index, rng, index in new) for index in [*new, *old]]
            yield collate(rows)

    def _row(self, index: int, rng: np.random.Generator, new: bool) -> dict[str, object]:
        scene = make_scene(TRAIN_SEED, index)
        questions = LESSONS[int(self.lesson)](scene, rng)
        return self.builder.row(scene, questions, index, drawn=new)
