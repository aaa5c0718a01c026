"""The worker that answers: a VLM, a decoder beside it, and pictures decoded ahead.

It is made from a recipe wherever the executor has it run; what is asked about an image
comes as a job, and its answers go back as soon as they are there.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from PIL.Image import Image

from lossylens.adaptor import Adaptor
from lossylens.codec import CodecPoint
from lossylens.executor import Begin
from lossylens.failure import Failure, attempt
from lossylens.registry.import_paths import import_object
from lossylens.run.decoding import Decoded, DecodeJob, DecoderProcess, ahead
from lossylens.vlm import Answer, Condition, ImageQuestions, Question, Vlm

T = TypeVar("T")


@dataclass(frozen=True)
class AdaptorRecipe:
    """An adaptor, as a worker builds it.

    Attributes:
        name: of the adaptor.
        key: of the VLM with it.
        factory, options: to build it from.
    """

    name: str
    key: str
    factory: str
    options: Any


@dataclass(frozen=True)
class AnswerJob:
    """Images with what is asked about them together, at one codec and level.

    Attributes:
        number: tells the jobs of a run apart.
        adaptor: of the VLM; None for the VLM as it is.
        decode: what has to be decoded, each image once.
        points: how each of these reaches the model.
        order: which of them the model is shown, in the order of the questions' markers.
        questions: all that are asked.
        alone: whether it must not share a batch, since it may crash the model.
    """

    number: int
    adaptor: AdaptorRecipe | None
    decode: tuple[DecodeJob, ...]
    points: tuple[CodecPoint, ...]
    order: tuple[int, ...]
    questions: tuple[Question, ...]
    alone: bool = False

    @property
    def pixels(self) -> int:
        """Of all its images."""
        return sum(each.pixels for each in self.decode)


@dataclass(frozen=True)
class Answered:
    """What became of a job.

    Attributes:
        answers: one for each question; or why the model gave none.
        undecoded: why there was no picture to ask about, else None.
        decode_seconds: that the decoder took; None without a codec.
        answer_seconds: that the model took; the first image of a batch has those of all.
        deterministic: False if the decoder gave two pictures for one bitstream.
    """

    answers: tuple[Answer, ...] | Failure = ()
    undecoded: Failure | None = None
    decode_seconds: float | None = None
    answer_seconds: float = 0.0
    deterministic: bool = True


@dataclass(frozen=True)
class ModelRecipe:
    """A VLM, as a worker builds it.

    Attributes:
        name: of the VLM.
        factory, options: to build it from.
    """

    name: str
    factory: str
    options: Any

    def built(self) -> Vlm:
        """Build the VLM."""
        vlm: Vlm = import_object(self.factory)(self.options)
        return vlm


@dataclass(frozen=True)
class AnswerRecipe:
    """What the worker is made of; see :class:`~lossylens.executor.Recipe`.

    Attributes:
        model: what answers.
        depth, pixels: how many decoded pictures, and pixels, may wait for it.
        seconds, memory: limits of the decoder; see :class:`~lossylens.run.decoding.DecoderProcess`.
    """

    model: ModelRecipe
    depth: int
    pixels: float
    seconds: float | None
    memory: int | None

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"vlm {self.model.name!r}"

    def start(self) -> _Asking:
        """Build the model."""
        return _Asking(self)


class _Asking:
    """The work of one worker: one model, its adaptors, and a decoder."""

    def __init__(self, recipe: AnswerRecipe) -> None:
        self._recipe = recipe
        self._vlm = recipe.model.built()
        self._adapted: dict[str, _Adapted] = {}
        self._decoder = DecoderProcess(recipe.seconds, recipe.memory)

    def __call__(self, jobs: Iterator[AnswerJob], begin: Begin) -> Generator[Answered, None, None]:
        begin(0)
        groups = ahead(
            self._decode,
            _together(jobs),
            self._recipe.depth,
            lambda group: sum(job.pixels for job in group),
            self._recipe.pixels,
        )
        with closing(groups):
            decoded = (each for _, group in groups for each in _emptied(group))
            for batch in batches(decoded, max(1, self._vlm.batch_images)):
                begin(len(batch))
                yield from self._answer(batch)

    def _adaptation(self, job: AnswerJob) -> _Adapted:
        """Return the VLM as it is, or with the job's adaptor, which shares its weights."""
        key = job.adaptor.key if job.adaptor else ""
        if key not in self._adapted:
            self._adapted[key] = _adapted(self._vlm, job.adaptor)
        return self._adapted[key]

    def _decode(self, jobs: Sequence[AnswerJob]) -> list[tuple[AnswerJob, _Found | Failure]]:
        """Decode the images of some jobs; called in the thread that works ahead."""
        decoded = iter(self._decoder.decode([each for job in jobs for each in job.decode]))
        found: list[tuple[AnswerJob, _Found | Failure]] = []
        for job in jobs:
            mine = [next(decoded) for _ in job.decode]
            failure = next((each for each in mine if isinstance(each, Failure)), None)
            if failure is not None:
                found.append((job, failure))
                continue
            whole = [each for each in mine if isinstance(each, Decoded)]
            item = _questions(job, whole)
            facts = _Facts(
                sum(each.seconds for each in whole), all(each.deterministic for each in whole)
            )
            found.append((job, _Found(item, facts)))
            if job.adaptor is None:
                # An adaptor may change the picture, and then it is another.
                attempt(self._vlm.expect, item)
        return found

    def _answer(
        self, batch: list[tuple[AnswerJob, _Found | Failure]]
    ) -> Generator[Answered, None, None]:
        jobs = [(job, _facts(each)) for job, each in batch]
        items = [each.item for _, each in batch if isinstance(each, _Found)]
        adaptation = attempt(self._adaptation, jobs[0][0])
        # The pictures are freed as soon as the model has seen them.
        batch.clear()
        answers = self._adapt_and_ask(adaptation, items)
        for job, facts in jobs:
            if isinstance(facts, Failure):
                yield Answered(undecoded=facts)
                continue
            start = time.perf_counter()
            # The first of a batch waits for all of it.
            answer = next(answers)
            yield Answered(
                answer,
                decode_seconds=facts.decode_seconds if any(d.codec for d in job.decode) else None,
                answer_seconds=time.perf_counter() - start,
                deterministic=facts.deterministic,
            )

    def _adapt_and_ask(
        self, adaptation: _Adapted | Failure, items: list[ImageQuestions]
    ) -> Iterator[tuple[Answer, ...] | Failure]:
        """Ask about what the adaptor makes of *items*; one that it fails on fails alone."""
        if isinstance(adaptation, Failure):
            yield from [adaptation] * len(items)
            return
        changed = [attempt(adaptation.changed, item) for item in items]
        items.clear()
        whole = [each for each in changed if not isinstance(each, Failure)]
        answers = self._ask(adaptation.vlm, whole)
        for each in [each if isinstance(each, Failure) else None for each in changed]:
            yield next(answers) if each is None else each

    def _ask(self, vlm: Vlm, batch: list[ImageQuestions]) -> Iterator[tuple[Answer, ...] | Failure]:
        """Ask the VLM; when it fails on a batch, ask item by item."""
        if not batch:
            return
        answers = attempt(partial(self._checked, vlm), batch)
        if not isinstance(answers, Failure):
            batch.clear()
            yield from answers
        elif len(batch) == 1:
            yield answers
        else:
            for item in batch:
                yield from self._ask(vlm, [item])

    def _checked(self, vlm: Vlm, batch: list[ImageQuestions]) -> list[tuple[Answer, ...]]:
        """Return the answers of the VLM, if they are what its contract says.

        Raises:
            TypeError, ValueError: they are not.
        """
        name = self._recipe.model.name
        given: Any = vlm.answer(batch)
        expected = [len(item.questions) for item in batch]
        try:
            answers = [tuple(of_image) for of_image in given]
            counts = [len(of_image) for of_image in answers]
            stray = [each for of_image in answers for each in of_image if not _is_answer(each)]
        except TypeError:
            stray, counts = [given], []
        if stray:
            raise TypeError(
                f"vlm {name!r} must return a list of Answers for each image, not {stray[0]!r:.80}"
            )
        if counts != expected:
            raise ValueError(f"vlm {name!r} gave {counts} answers to {expected} questions")
        return answers


@dataclass(frozen=True)
class _Found:
    """A picture with its questions."""

    item: ImageQuestions
    facts: _Facts


@dataclass(frozen=True)
class _Facts:
    """What is known of a picture."""

    decode_seconds: float
    deterministic: bool


def _facts(found: _Found | Failure) -> _Facts | Failure:
    return found if isinstance(found, Failure) else found.facts


@dataclass(frozen=True)
class _Adapted:
    """A VLM, and the adaptor that changes what it is shown."""

    vlm: Vlm
    adaptor: Adaptor | None = None

    def changed(self, item: ImageQuestions) -> ImageQuestions:
        """Return *item* with the pictures that the adaptor makes of its images.

        Raises:
            TypeError: it makes something else.
        """
        if self.adaptor is None:
            return item
        pairs = zip(item.images, item.conditions, strict=True)
        pictures = tuple(image and self._picture(image, condition) for image, condition in pairs)
        return replace(item, images=pictures)

    def _picture(self, image: Image, condition: Condition) -> Image:
        assert self.adaptor is not None
        picture: Any = self.adaptor.picture(image, condition)
        if not isinstance(picture, Image) or picture.mode != "RGB":
            raise TypeError(f"the adaptor returned {picture!r:.60} instead of an RGB image")
        return picture


def _adapted(vlm: Vlm, recipe: AdaptorRecipe | None) -> _Adapted:
    if recipe is None:
        return _Adapted(vlm)
    adaptor: Adaptor = import_object(recipe.factory)(recipe.options)
    changes = type(adaptor).picture is not Adaptor.picture
    if type(adaptor).encoder is not Adaptor.encoder:
        encode = adaptor.encoder(vlm.vision)
        if encode is not None:
            vlm = vlm.with_encoder(encode)
    return _Adapted(vlm, adaptor if changes else None)


def _emptied(group: list[T]) -> Iterator[T]:
    """Yield the members of a list that nobody else needs, each given away."""
    group.reverse()
    while group:
        yield group.pop()


def _together(jobs: Iterator[AnswerJob]) -> Iterator[list[AnswerJob]]:
    """Yield jobs whose images the decoder wants at once: alike in codec, level and size."""
    group: list[AnswerJob] = []
    for job in jobs:
        room = job.decode[0].batch_images if len(job.decode) == 1 else 1
        if group and (room <= len(group) or not _alike(group[0], job)):
            yield group
            group = []
        group.append(job)
        # So few that they are always there, whatever the executor sends at once.
        if len(group) >= min(room, 16):
            yield group
            group = []
    if group:
        yield group


def _alike(one: AnswerJob, other: AnswerJob) -> bool:
    if len(one.decode) != 1 or len(other.decode) != 1:
        return False
    (first,), (second,) = one.decode, other.decode
    return first.picture.size == second.picture.size and first.codec == second.codec


def batches(
    decoded: Iterable[tuple[AnswerJob, T]], size: int
) -> Generator[list[tuple[AnswerJob, T]], None, None]:
    """Yield jobs in lists that hold about *size* images, the last one shorter.

    Those that must be alone are, and a list has one adaptor.
    """
    batch: list[tuple[AnswerJob, T]] = []
    images = 0
    for job, result in decoded:
        more = len(job.order)
        apart = batch and (job.alone or job.adaptor != batch[0][0].adaptor)
        if batch and (apart or images + more > size):
            yield batch
            batch, images = [], 0
        batch.append((job, result))
        images += more
        del result
        if job.alone or images >= size:
            yield batch
            batch, images = [], 0
    if batch:
        yield batch


def _is_answer(value: Any) -> bool:
    return isinstance(value, Answer) and isinstance(value.text, str | None)


def _questions(job: AnswerJob, decoded: Sequence[Decoded]) -> ImageQuestions:
    images = [each.image() for each in decoded]
    conditions = [
        Condition(point, decode.picture.size, each.bitstream, each.latents)
        for point, decode, each in zip(job.points, job.decode, decoded, strict=True)
    ]
    return ImageQuestions(
        tuple(images[number] for number in job.order),
        job.questions,
        tuple(conditions[number] for number in job.order),
    )
