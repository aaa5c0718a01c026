"""The scenes task: samples made on the spot, scored by exact match."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import PIL
from lossylens.errors import ConfigError, DataError
from lossylens.names import suggestion
from lossylens.task import ImageRef, Resampling, Sample, Score, Task
from lossylens_toolkit.photographs import PhotographSet, check_photographs

from lossylens_task_scenes.options import ScenesOptions, check_size
from lossylens_task_scenes.questions.full_set import ask
from lossylens_task_scenes.questions.scene_question import TOPICS, SceneQuestion
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import GENERATOR_VERSION, NOMINAL_SIZE, Scene, make_scene
from lossylens_task_scenes.scoring import caption_f1, extract, is_right
from lossylens_task_scenes.tsv import image_bytes

_PIXELS_HASHED = 8
"""Scenes whose pixels go into the fingerprint; the descriptions of all scenes do anyway, and what
changes pixels behind their back (Pillow, the photographs) shows in a few."""

_SIZE_BINS = ((12.0, "tiny"), (25.0, "small"), (48.0, "medium"), (float("inf"), "large"))


def scene_png(seed: int, index: int, size: int, photographs: PhotographSet) -> bytes:
    """A scene as a PNG file."""
    return image_bytes(render(make_scene(seed, index, size, photographs)))


def size_bin(pixels: float, scene_size: int) -> str:
    """Name of the size of what a question is about, "" when it is about nothing in particular."""
    if pixels <= 0:
        return ""
    nominal = pixels * NOMINAL_SIZE / scene_size
    return next(name for limit, name in _SIZE_BINS if nominal < limit)


@dataclass
class _Tally:
    """Right answers among all."""

    right: int = 0
    total: int = 0

    def add(self, right: bool) -> None:
        self.right += right
        self.total += 1

    @property
    def percent(self) -> float:
        return 100.0 * self.right / self.total if self.total else float("nan")


class ScenesTask(Task):
    """About 26 questions on each of `options.images` procedural scenes.

    The primary metric, `accuracy`, is the percentage of exact matches over all questions but the
    captions.  Beside it there are the accuracies per topic, per kind of question and per size of
    what is asked about, and for captions the mean F1 of their words.
    """

    def __init__(self, options: ScenesOptions | None = None) -> None:
        options = options or ScenesOptions()
        if options.images < 1:
            raise ConfigError(f"tasks.scenes.images must be at least 1, got {options.images}")
        if options.seed < 0:
            raise ConfigError(f"tasks.scenes.seed must not be negative, got {options.seed}")
        for topic in options.topics:
            if topic not in TOPICS:
                raise ConfigError(
                    f"tasks.scenes.topics: unknown topic {topic!r}. {suggestion(topic, TOPICS)}"
                )
        if list(options.topics) == ["caption"]:
            raise ConfigError(
                "tasks.scenes.topics: captions alone have no accuracy; add another topic"
            )
        self.images = options.images
        self.seed = options.seed
        self.size = check_size(options.size)
        self.photographs = check_photographs(options.photographs)
        self.topics = tuple(options.topics) or TOPICS

    def _scene(self, index: int) -> Scene:
        return make_scene(self.seed, index, self.size, self.photographs)

    @cached_property
    def _questions(self) -> dict[str, SceneQuestion]:
        """Sample id to question, in order."""
        return {
            f"{index}-{k}": question
            for index in range(self.images)
            for k, question in enumerate(ask(self._scene(index), topics=self.topics))
        }

    @cached_property
    def _labels(self) -> list[str]:
        """Colour and shape of each scene's largest object."""
        scenes = (self._scene(index) for index in range(self.images))
        largest = (max(scene.objects, key=lambda each: each.radius) for scene in scenes)
        return [f"{thing.color} {thing.shape}" for thing in largest]

    def samples(self) -> Iterator[Sample]:
        """Yield the questions scene by scene."""
        for sample_id, question in self._questions.items():
            index = int(sample_id.split("-")[0])
            read = partial(scene_png, self.seed, index, self.size, self.photographs)
            image = ImageRef(f"scene-{index}", read, label=self._labels[index])
            yield Sample(
                id=sample_id,
                images=(image,),
                question=question.structured(),
                fields={
                    "topic": question.topic,
                    "category": question.category,
                    "answer": question.answer,
                    "size": size_bin(question.subject_size, self.size),
                },
            )

    def score(self, predictions: Mapping[str, str | None]) -> Score:
        """Score answers; a failed one is wrong, and a question without one does not count."""
        questions = self._questions
        for sample_id in predictions:
            if sample_id not in questions:
                raise DataError(
                    f"prediction for unknown sample {sample_id!r} of scenes"
                    f" (images={self.images}, seed={self.seed})"
                )
        overall = _Tally()
        groups: dict[str, dict[str, _Tally]] = {"topics": {}, "kinds": {}, "sizes": {}}
        verdicts: dict[str, float | None] = {}
        extracted: dict[str, str] = {}
        caption_scores: list[float] = []
        missing = failed = unextracted = 0
        for sample_id, question in questions.items():
            if sample_id not in predictions:
                missing += 1
                continue
            prediction = predictions[sample_id]
            failed += prediction is None
            if question.kind == "caption":
                caption_scores.append(caption_f1(prediction or "", question.references))
                verdicts[sample_id] = None
                continue
            answer = None
            if prediction is not None:
                answer = extract(question, prediction)
                unextracted += answer is None
            extracted[sample_id] = answer or ""
            right = is_right(question, answer)
            verdicts[sample_id] = float(right)
            overall.add(right)
            keys = {
                "topics": question.topic,
                "kinds": question.kind,
                "sizes": size_bin(question.subject_size, self.size),
            }
            for group, key in keys.items():
                if key:
                    groups[group].setdefault(key, _Tally()).add(right)
        metrics: dict[str, object] = {"accuracy": overall.percent}
        for group, tallies in groups.items():
            metrics[group] = {key: tallies[key].percent for key in sorted(tallies)}
        if caption_scores:
            metrics["caption_f1"] = 100.0 * sum(caption_scores) / len(caption_scores)
        return Score(
            metrics=metrics,
            value=overall.percent,
            verdicts=verdicts,
            extracted=extracted,
            samples=len(questions),
            missing=missing,
            failed=failed,
            unextracted=unextracted,
            resampling=Resampling.mean(verdicts, 100),
        )

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"scenes {GENERATOR_VERSION}\n".encode())
        for index in range(self.images):
            scene = self._scene(index)
            digest.update(repr(scene).encode())
            if index < _PIXELS_HASHED:
                digest.update(render(scene).tobytes())
        for sample_id, question in self._questions.items():
            digest.update(f"{sample_id} {question!r}\n".encode())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Return a hash of all scenes and questions and of the pixels of the first scenes."""
        return self._fingerprint

    def provenance(self) -> Mapping[str, str]:
        """Return what makes the data again."""
        return {
            "generator": f"lossylens-task-scenes, generator version {GENERATOR_VERSION}",
            "images": str(self.images),
            "seed": str(self.seed),
            "size": str(self.size),
            "photographs": self.photographs,
            "topics": ", ".join(self.topics),
            "pillow": PIL.__version__,
        }
