"""The second step of a run: decode, and answer, decoding ahead of the model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from PIL.Image import Image

from lossylens.codec import Codec
from lossylens.collect import Asked, Material, Picture
from lossylens.config import Config
from lossylens.errors import PluginError
from lossylens.failure import Failure, attempt
from lossylens.pixels import decoded_image, source_image
from lossylens.plan import Cell, CodecLevel, Model, Plan, build_model
from lossylens.progress import Step, progress
from lossylens.store import Store, to_json
from lossylens.vlm import Answer, Condition, ImageQuestions, Vlm

T = TypeVar("T")
U = TypeVar("U")

#: Stages at which a sample can fail, as stored.
IMAGE, ENCODE, DECODE, ANSWER = "image", "encode", "decode", "answer"


@dataclass(frozen=True)
class Todo:
    """An image with the samples that await an answer, at one codec and level.

    Attributes:
        bitstream: hash of the stored bitstream; None for the source image itself.
        asked: the samples with their cells.
    """

    picture: Picture
    bitstream: str | None
    asked: tuple[tuple[Cell, Asked], ...]


@dataclass(frozen=True)
class Decoded:
    """What the VLM is given."""

    image: Image
    bitstream: bytes | None
    seconds: float


def count_pending(plan: Plan, material: Material, store: Store) -> int:
    """Return how many samples await an answer, in all cells."""
    pending = 0
    for cell in plan.cells:
        answered = store.predictions(cell.key)
        asked = material.samples[cell.task_key]
        pending += sum(each.sample.id not in answered for each in asked)
    return pending


def answer_all(config: Config, plan: Plan, material: Material, store: Store) -> None:
    """Answer what is not in the store; each batch is stored as it comes.

    Raises:
        LossylensError: a VLM or codec cannot work at all, or the store cannot be written.
    """
    pending = count_pending(plan, material, store)
    if not pending:
        return
    with progress("Answering", pending, "questions") as step:
        for model in plan.models:
            vlm: Vlm | None = None
            for codec in plan.codecs:
                todos = _todos(plan, model, codec, material, store, step)
                if todos and vlm is None:
                    vlm = build_model(config.registry, model.choice, model.adaptor)
                if todos and vlm is not None:
                    _Answering(config, model, codec, vlm, store, step).run(todos)


def _todos(
    plan: Plan, model: Model, codec: CodecLevel, material: Material, store: Store, step: Step
) -> list[Todo]:
    """Group what awaits an answer by image; record what cannot get one."""
    encodings = store.encodings(codec.part.key) if codec.encodes else {}
    grouped: dict[str, list[tuple[Cell, Asked]]] = {}
    failed: list[tuple[str, str, None, None, str, str]] = []
    for benchmark, cell in plan.cells_of(model, codec):
        answered = store.predictions(cell.key)
        for asked in material.samples[benchmark.part.key]:
            if asked.sample.id in answered:
                continue
            stage, reason = _obstacle(asked, material, encodings)
            if reason:
                failed.append((cell.key, asked.sample.id, None, None, stage, reason))
            else:
                assert asked.image is not None
                grouped.setdefault(asked.image, []).append((cell, asked))
    store.add_predictions(failed)
    step.advance(len(failed))
    return [
        Todo(
            material.pictures[image],
            encodings[image]["bitstream"] if codec.encodes else None,
            tuple(items),
        )
        for image, items in grouped.items()
    ]


def _obstacle(asked: Asked, material: Material, encodings: dict[str, Any]) -> tuple[str, str]:
    """Return the stage at which a sample has failed already, and why."""
    if asked.image is None:
        return IMAGE, asked.failure
    picture = material.pictures[asked.image]
    if picture.failure:
        return IMAGE, picture.failure
    encoding = encodings.get(asked.image)
    if encoding and encoding["failure"]:
        return ENCODE, encoding["failure"]
    return "", ""


class _Answering:
    """One model at one codec and level."""

    def __init__(
        self, config: Config, model: Model, codec: CodecLevel, vlm: Vlm, store: Store, step: Step
    ) -> None:
        self._config, self._model, self._codec = config, model, codec
        self._vlm, self._store, self._step = vlm, store, step
        self._decoder: Codec | None = None

    def run(self, todos: Sequence[Todo]) -> None:
        """Answer all *todos*, storing each batch."""
        decoded = ahead(self._decode, todos, self._config.run.decode_ahead)
        with closing(decoded):
            for batch in batches(decoded, max(1, self._vlm.batch_images)):
                self._answer(batch)

    def _decode(self, todo: Todo) -> Decoded | Failure:
        """Decode one image; called in the thread that works ahead."""
        decoded = attempt(self._decoded, todo)
        if isinstance(decoded, Decoded):
            self._vlm.expect(self._questions(todo, decoded))
        return decoded

    def _decoded(self, todo: Todo) -> Decoded:
        parity = self._config.run.evaluator_parity
        if todo.bitstream is None:
            return Decoded(source_image(todo.picture.content(), parity=parity), None, 0.0)
        bitstream = self._store.read_bitstream(todo.bitstream)
        if self._decoder is None:
            choice = self._codec.choice
            registry = self._config.registry
            self._decoder = registry.build_codec(
                choice.spec.name, self._codec.level, choice.options
            )
        start = time.perf_counter()
        image = decoded_image(self._decoder, bitstream, todo.picture.size, parity=parity)
        seconds = time.perf_counter() - start
        return Decoded(image, bitstream if self._vlm.wants_bitstream else None, seconds)

    def _answer(self, batch: Sequence[tuple[Todo, Decoded | Failure]]) -> None:
        rows: list[tuple[Any, ...]] = []
        timings: list[tuple[Any, ...]] = []
        given: list[tuple[Todo, ImageQuestions]] = []
        for todo, decoded in batch:
            if isinstance(decoded, Failure):
                rows += [
                    (cell.key, asked.sample.id, None, None, DECODE, decoded.reason)
                    for cell, asked in todo.asked
                ]
                continue
            given.append((todo, self._questions(todo, decoded)))
            if todo.bitstream is not None:
                timings.append(("decode", self._codec.part.key, 1, decoded.seconds))
        start = time.perf_counter()
        answers = self._ask([questions for _, questions in given])
        seconds = time.perf_counter() - start
        for (todo, _), of_image in zip(given, answers, strict=True):
            rows += map(_row, todo.asked, of_image)
        questions = sum(map(len, answers))
        timings.append(("answer", self._model.part.key, questions, seconds))
        self._store.add_predictions(rows, timings)
        self._step.advance(len(rows))

    def _questions(self, todo: Todo, decoded: Decoded) -> ImageQuestions:
        condition = Condition(
            self._codec.choice.spec.name, self._codec.level.name, decoded.bitstream
        )
        questions = tuple(asked.sample.question for _, asked in todo.asked)
        return ImageQuestions(decoded.image, questions, condition)

    def _ask(self, batch: list[ImageQuestions]) -> list[list[Answer]]:
        """Ask the VLM; when it fails on a batch, ask image by image."""
        answers = attempt(self._vlm.answer, batch) if batch else []
        if isinstance(answers, Failure):
            if len(batch) == 1:
                return [[Answer(None, answers.reason)] * len(batch[0].questions)]
            return [self._ask([item])[0] for item in batch]
        given = [len(of_image) for of_image in answers]
        expected = [len(item.questions) for item in batch]
        if given != expected:
            name = self._model.choice.spec.name
            raise PluginError(f"vlm {name!r} gave {given} answers to {expected} questions")
        return answers


def _row(asked: tuple[Cell, Asked], answer: Answer) -> tuple[Any, ...]:
    cell, item = asked
    usage = to_json(dict(answer.usage)) if answer.usage else None
    if answer.text is not None:
        return (cell.key, item.sample.id, answer.text, usage, None, None)
    reason = answer.failure or "the VLM gave no reason"
    return (cell.key, item.sample.id, None, usage, ANSWER, reason)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield *items* in lists of *size*, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def ahead(
    function: Callable[[T], U], items: Iterable[T], depth: int
) -> Generator[tuple[T, U], None, None]:
    """Yield each item with its result, which another thread works out ahead of use.

    Args:
        function: what to work out.  An exception comes out where its result would.
        items: consumed by that thread.
        depth: how many results may wait.
    """
    results: queue.Queue[tuple[T, U] | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(result: tuple[T, U] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return results.put(result, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((item, function(item)))
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="decode-ahead", daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        thread.join()
