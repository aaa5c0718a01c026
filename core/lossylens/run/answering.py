"""The second step of a run: have the model asked about every image, and keep the answers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lossylens.adaptor import Needs
from lossylens.codec import SOURCE
from lossylens.executor import Executor, Resources
from lossylens.failure import Failure, FaultError, FaultWatch
from lossylens.grid.config import Config
from lossylens.grid.plan import CodecLevel, Model
from lossylens.run.asking import AdaptorRecipe, Answered, AnswerJob, AnswerRecipe, ModelRecipe
from lossylens.run.collect import Asked, Material
from lossylens.run.decoding import Bitstream, DecodeJob
from lossylens.run.jobs import Carried, CodecRecipe, closing_workers, portable
from lossylens.run.progress import Step
from lossylens.store.database import Store
from lossylens.store.jsonable import short_hash
from lossylens.store.records import Cell, Picture, Prediction, StoredEncoding, Timing
from lossylens.vlm import GPU_MEMORY, Answer, Question

#: Stages at which a sample can fail, as stored.
IMAGE, ENCODE, DECODE, ANSWER = "image", "encode", "decode", "answer"

#: Images in a message to the worker.
_CHUNK = 32


@dataclass(frozen=True, slots=True)
class Todo:
    """Images with the samples about them that await an answer, at one codec and level.

    Attributes:
        images: in the order of the samples' markers, each with whether it is context.
        asked: the samples with their cells.
    """

    images: tuple[tuple[Picture, bool], ...]
    asked: tuple[tuple[Cell, Asked], ...]

    @property
    def key(self) -> str:
        """Tells its images from those of others."""
        return (
            self.images[0][0].sha256
            if len(self.images) == 1
            else short_hash([(picture.sha256, context) for picture, context in self.images])
        )


#: The samples of some cells that await an answer, cells without any left out.
Pending = Sequence[tuple[Cell, Sequence[Asked]]]


def pending(cells: Iterable[Cell], material: Material, store: Store) -> Pending:
    """Return what awaits an answer in *cells*."""
    found = []
    for cell in cells:
        answered = store.answered(cell.key)
        lacking = [
            each for each in material.samples[cell.task_key] if each.sample.id not in answered
        ]
        if lacking:
            found.append((cell, lacking))
    return found


class Answering:
    """Answers what is not in the store, one model at one codec and level after the other.

    Args:
        config: of the run.
        material: the images that are asked about.
        executor: where the models are.
        store: where answers and failures go, each as it comes.
        step: progress, in questions.
    """

    def __init__(
        self,
        config: Config,
        material: Material,
        executor: Executor[Any, Any],
        store: Store,
        step: Step,
    ) -> None:
        self._config, self._material = config, material
        self._executor, self._store, self._step = executor, store, step

    def answer(self, model: Model, codec: CodecLevel, due: Pending) -> None:
        """Have *model* answer what is *due* at *codec*.

        Raises:
            FaultError: VLM or codec is at fault.
            LossylensError: one of them cannot work at all, or the store cannot be written.
        """
        todos = self._todos(codec, due)
        if todos:
            _Session(self._config, model, codec, self._executor, self._store, self._step).run(todos)

    def _todos(self, codec: CodecLevel, due: Pending) -> list[Todo]:
        """Group what is *due* by its images; record what cannot get an answer."""
        encodings = self._store.encodings(codec.part.key) if codec.encodes else {}
        grouped: dict[tuple[tuple[str, bool], ...], list[tuple[Cell, Asked]]] = {}
        failed: list[Prediction] = []
        for cell, samples in due:
            for asked in samples:
                obstacle = _obstacle(asked, self._material, encodings)
                if obstacle is not None:
                    failed.append(
                        Prediction(
                            cell.key,
                            asked.sample.id,
                            None,
                            obstacle.stage,
                            obstacle.reason,
                            transient=obstacle.transient,
                        )
                    )
                    continue
                shown = zip(asked.images, asked.sample.images, strict=True)
                images = tuple((image or "", given.context) for image, given in shown)
                grouped.setdefault(images, []).append((cell, asked))
        self._store.add_predictions(failed)
        self._step.advance(len(failed))
        pictures = self._material.pictures
        return [
            Todo(tuple((pictures[image], context) for image, context in images), tuple(items))
            for images, items in grouped.items()
        ]


@dataclass(frozen=True)
class _Obstacle:
    """Why a sample cannot be asked: the stage at which it has failed already."""

    stage: str
    reason: str
    transient: bool = False


def _obstacle(
    asked: Asked, material: Material, encodings: Mapping[str, StoredEncoding]
) -> _Obstacle | None:
    if asked.failure:
        return _Obstacle(IMAGE, asked.failure)
    for image in asked.images:
        picture = material.pictures[image or ""]
        if picture.failure:
            return _Obstacle(IMAGE, picture.failure)
    for image in asked.compressed:
        encoding = encodings.get(image)
        if encoding and encoding.failure:
            return _Obstacle(ENCODE, encoding.failure, encoding.transient)
    return None


class _Session:
    """One model at one codec and level."""

    def __init__(
        self,
        config: Config,
        model: Model,
        codec: CodecLevel,
        executor: Executor[Any, Any],
        store: Store,
        step: Step,
    ) -> None:
        self._config, self._model, self._codec = config, model, codec
        self._executor, self._store, self._step = executor, store, step
        self._recipe = CodecRecipe.of(codec) if codec.encodes else None
        self._bitstreams = (
            {
                image: each.bitstream
                for image, each in store.encodings(codec.part.key).items()
                if each.bitstream
            }
            if codec.encodes
            else {}
        )
        self._needs = Needs.PIXELS | Needs.BITSTREAM
        if model.adaptor is not None:
            # The VLM itself may want the bitstream too.
            self._needs = model.adaptor.light.needs | Needs.BITSTREAM
        out = config.run.out
        self._decoding = FaultWatch(
            "codec", f"the decoder of codec {codec.choice.spec.name!r}", out
        )
        self._answering = FaultWatch("vlm", _who(model), out)
        self._crashed = store.crashes(model.part.key)

    def run(self, todos: Sequence[Todo]) -> None:
        """Answer all *todos*, storing each as it comes."""
        run = self._config.run
        recipe = AnswerRecipe(
            model=ModelRecipe(
                name=self._model.choice.spec.name,
                factory=self._model.choice.spec.factory,
                options=self._model.choice.options,
            ),
            depth=run.decode_ahead,
            pixels=1e6 * run.decode_ahead_megapixels,
            seconds=run.timeout,
            memory=self._config.memory,
        )
        resources = Resources(
            workers=None,
            seconds=run.timeout,
            gpus=self._model.choice.spec.gpus(self._model.choice.options),
            gpu_memory=GPU_MEMORY,
            kept=True,
            plugin=self._model.choice.where,
        )
        # Those that have crashed the model come last, so that they can spoil nothing.
        ordered = sorted(todos, key=lambda todo: todo.key in self._crashed)
        chunks = _chunks(self._jobs(ordered))
        died: list[tuple[Todo, Failure]] = []
        with closing_workers(self._executor.run(recipe, chunks, resources)) as results:
            for job, result in results:
                todo = ordered[job.number]
                if not isinstance(result, Failure):
                    self._keep(todo, result)
                elif job.alone or result.transient or not result.died:
                    self._fail(todo, ANSWER, result, self._answering)
                else:
                    died.append((todo, result))
                    if len(died) == result.died:
                        self._stop(died)
        self._decoding.release()
        self._answering.release()

    def _jobs(self, todos: Sequence[Todo]) -> Iterator[AnswerJob]:
        adaptor = _adaptor_recipe(self._model)
        for number, todo in enumerate(todos):
            distinct = list(dict.fromkeys(todo.images))
            yield AnswerJob(
                number=number,
                adaptor=adaptor,
                decode=tuple(self._decode(*each, twice=not number) for each in distinct),
                points=tuple(SOURCE if context else self._codec.point for _, context in distinct),
                order=tuple(distinct.index(each) for each in todo.images),
                questions=tuple(_portable(asked.sample.question) for _, asked in todo.asked),
                alone=todo.key in self._crashed,
            )

    def _decode(self, picture: Picture, context: bool, *, twice: bool) -> DecodeJob:
        parity = self._config.run.evaluator_parity
        if context or self._recipe is None:
            return DecodeJob(portable(picture, self._executor), None, None, parity)
        bitstream = self._bitstream(self._bitstreams[picture.sha256])
        # The original is not looked at.
        return DecodeJob(
            replace(picture, read=bytes), self._recipe, bitstream, parity, self._needs, twice
        )

    def _bitstream(self, sha256: str) -> Bitstream:
        if self._executor.shares_folder:
            return Bitstream(sha256, self._store.folder)
        return Bitstream(sha256, None, Carried(sha256, partial(self._store.read_bitstream, sha256)))

    def _keep(self, todo: Todo, result: Answered) -> None:
        if not result.deterministic:
            self._store.add_note(
                self._codec.part.key,
                "its decoder is not deterministic: it gave two pictures for one bitstream",
            )
        if result.undecoded is not None:
            self._fail(todo, DECODE, result.undecoded, self._decoding)
            return
        self._decoding.succeeded()
        if isinstance(result.answers, Failure):
            self._fail(todo, ANSWER, result.answers, self._answering)
            return
        self._answering.succeeded()
        hidden = self._config.environment.hidden
        rows = [_row(*each, hidden) for each in zip(todo.asked, result.answers, strict=True)]
        timings = [Timing("answer", self._model.part.key, len(rows), result.answer_seconds)]
        if result.decode_seconds is not None:
            timings.append(Timing("decode", self._codec.part.key, 1, result.decode_seconds))
        self._store.add_predictions(rows, timings)
        spent: Counter[str] = Counter()
        for row in rows:
            spent.update(row.usage)
        self._step.advance(len(rows), spent)

    def _fail(self, todo: Todo, stage: str, failure: Failure, watch: FaultWatch) -> None:
        rows = [
            Prediction(
                cell.key,
                asked.sample.id,
                None,
                stage,
                self._config.environment.hidden(failure.reason),
                transient=failure.transient,
            )
            for cell, asked in todo.asked
        ]

        def record() -> None:
            self._store.add_predictions(rows)
            self._step.advance(len(rows))

        watch.failed(failure, record)

    def _stop(self, died: Sequence[tuple[Todo, Failure]]) -> None:
        """Take note of the images on which the model has crashed, and end the run."""
        images = [todo.key for todo, _ in died]
        failure = died[0][1]
        self._store.add_crashes(self._model.part.key, images, failure.reason)
        self._decoding.release()
        self._answering.release()
        count = "1 image" if len(images) == 1 else f"{len(images)} images"
        raise FaultError(
            f"{_who(self._model)} crashed: {failure.reason} while it was asked"
            f" about {count}, {self._codec.choice.label} {self._codec.level.name} (image"
            f" {images[0][:12]}). Nothing more is asked of it. Start the same command again: it"
            " goes on, and asks about these last and one by one",
            "vlm",
        )


def _chunks(jobs: Iterator[AnswerJob]) -> Iterator[list[AnswerJob]]:
    chunk: list[AnswerJob] = []
    for job in jobs:
        chunk.append(job)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _adaptor_recipe(model: Model) -> AdaptorRecipe | None:
    if model.adaptor is None:
        return None
    choice = model.adaptor.choice
    return AdaptorRecipe(choice.spec.name, model.part.key, choice.spec.factory, choice.options)


def _who(model: Model) -> str:
    name = f"vlm {model.choice.spec.name!r}"
    return f"{name} with adaptor {model.adaptor.choice.spec.name!r}" if model.adaptor else name


def _portable(question: Question) -> Question:
    """Return *question* as it can be sent; a task may give any kind of mapping."""
    return dataclasses.replace(question, options=dict(question.options))


def _row(asked: tuple[Cell, Asked], answer: Answer, hidden: Callable[[str], str]) -> Prediction:
    cell, item = asked
    if answer.text is not None:
        return Prediction(cell.key, item.sample.id, answer.text, usage=dict(answer.usage))
    # A server may repeat the key that it was sent.
    reason = Failure(hidden(answer.failure or "the VLM gave no reason")).reason
    return Prediction(
        cell.key,
        item.sample.id,
        None,
        ANSWER,
        reason,
        transient=answer.transient,
        usage=dict(answer.usage),
    )
