"""The worker that answers: a VLM, a decoder beside it, and pictures decoded ahead.

It is made from a recipe wherever the executor has it run; what is asked about an image
comes as a job, and its answers go back as soon as they are there.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from lossylens.adaptor import Adaptor
from lossylens.decoding import Decoded, DecodeJob, Decoder, ahead
from lossylens.executor import Begin
from lossylens.failure import Failure, attempt
from lossylens.loading import import_object
from lossylens.vlm import Answer, Condition, ImageQuestions, Question, Vlm

T = TypeVar("T")


@dataclass(frozen=True)
class AnswerJob:
    """An image with what is asked about it, at one codec and level.

    Attributes:
        number: tells the jobs of a run apart.
        codec, level: how the image reaches the model.
        decode: what has to be decoded for it.
        questions: all that are asked.
        alone: whether it must not share a batch, since it may crash the model.
    """

    number: int
    codec: str
    level: str
    decode: DecodeJob
    questions: tuple[Question, ...]
    alone: bool = False


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
    """A VLM with its adaptor, as a worker builds it.

    Attributes:
        name: of the VLM.
        factory, options: to build it from.
        adaptor_factory, adaptor_options: of the adaptor; ``""`` for none.
    """

    name: str
    factory: str
    options: Any
    adaptor_factory: str = ""
    adaptor_options: Any = None

    def built(self) -> Vlm:
        """Build the VLM and attach its adaptor."""
        vlm: Vlm = import_object(self.factory)(self.options)
        if not self.adaptor_factory:
            return vlm
        adaptor: Adaptor = import_object(self.adaptor_factory)(self.adaptor_options)
        return adaptor.attach(vlm)


@dataclass(frozen=True)
class AnswerRecipe:
    """What the worker is made of; see :class:`~lossylens.executor.Recipe`.

    Attributes:
        model: what answers.
        depth, pixels: how many decoded pictures, and pixels, may wait for it.
        seconds, memory: limits of the decoder; see :class:`~lossylens.decoding.Decoder`.
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
    """The work of one worker."""

    def __init__(self, recipe: AnswerRecipe) -> None:
        self._recipe = recipe
        self._vlm = recipe.model.built()
        self._decoder = Decoder(recipe.seconds, recipe.memory)

    def __call__(self, jobs: Iterator[AnswerJob], begin: Begin) -> Generator[Answered, None, None]:
        begin(0)
        recipe = self._recipe
        decoded = ahead(
            self._decode, jobs, recipe.depth, lambda job: job.decode.pixels, recipe.pixels
        )
        with closing(decoded):
            for batch in batches(decoded, max(1, self._vlm.batch_images)):
                begin(len(batch))
                yield from self._answer(batch)

    def _decode(self, job: AnswerJob) -> _Found | Failure:
        """Decode one image; called in the thread that works ahead."""
        decoded = self._decoder.decode(job.decode)
        if isinstance(decoded, Failure):
            return decoded
        facts = _Facts(decoded.seconds, decoded.deterministic)
        found = _Found(_questions(job, decoded), facts)
        attempt(self._vlm.expect, found.item)
        return found

    def _answer(
        self, batch: list[tuple[AnswerJob, _Found | Failure]]
    ) -> Generator[Answered, None, None]:
        answers = self._ask([each.item for _, each in batch if isinstance(each, _Found)])
        jobs = [(job, _facts(each)) for job, each in batch]
        # The pictures are freed as soon as the model has seen them.
        batch.clear()
        for job, facts in jobs:
            if isinstance(facts, Failure):
                yield Answered(undecoded=facts)
                continue
            start = time.perf_counter()
            # The first of a batch waits for all of it.
            answer = next(answers)
            yield Answered(
                answer,
                decode_seconds=facts.decode_seconds if job.decode.codec else None,
                answer_seconds=time.perf_counter() - start,
                deterministic=facts.deterministic,
            )

    def _ask(self, batch: list[ImageQuestions]) -> Iterator[tuple[Answer, ...] | Failure]:
        """Ask the VLM; when it fails on a batch, ask image by image."""
        if not batch:
            return
        answers = attempt(self._checked, batch)
        if not isinstance(answers, Failure):
            batch.clear()
            yield from answers
        elif len(batch) == 1:
            yield answers
        else:
            for item in batch:
                yield from self._ask([item])

    def _checked(self, batch: list[ImageQuestions]) -> list[tuple[Answer, ...]]:
        """Return the answers of the VLM, if they are what its contract says.

        Raises:
            TypeError, ValueError: they are not.
        """
        name = self._recipe.model.name
        given: Any = self._vlm.answer(batch)
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


def batches(
    decoded: Iterable[tuple[AnswerJob, T]], size: int
) -> Generator[list[tuple[AnswerJob, T]], None, None]:
    """Yield jobs in lists of *size*, the last one shorter; those that must be alone are."""
    batch: list[tuple[AnswerJob, T]] = []
    for job, result in decoded:
        if batch and (job.alone or len(batch) == size):
            yield batch
            batch = []
        batch.append((job, result))
        del result
        if job.alone or len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _is_answer(value: Any) -> bool:
    return isinstance(value, Answer) and isinstance(value.text, str | None)


def _questions(job: AnswerJob, decoded: Decoded) -> ImageQuestions:
    condition = Condition(job.codec, job.level, decoded.bitstream)
    return ImageQuestions(decoded.image(), job.questions, condition)
