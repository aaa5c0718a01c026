"""A run: plan, encode, answer, score, measure.  Each step takes up where the store leaves off."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lossylens.answering import Answering, pending
from lossylens.collect import Asked, Material, Picture, collect
from lossylens.config import Config
from lossylens.cost import describe_cost, estimate
from lossylens.encoding import encode_all
from lossylens.errors import StoreError
from lossylens.executor import Executor
from lossylens.executors.local import LocalExecutor
from lossylens.fidelity import check_fidelities
from lossylens.manifest import make_manifest
from lossylens.measuring import measure_all
from lossylens.plan import CodecLevel, Model, Plan, make_plan
from lossylens.progress import Step, progress
from lossylens.scoring import Scoring
from lossylens.store import Store, to_json


def run(config: Config, say: Callable[[str], None], *, dry: bool = False) -> int:
    """Do a run, or what is left of one; return how many samples have failed.

    Everything is checked that can be before the run folder is made.

    Args:
        config: what to run.
        say: is told the plan and its cost before anything is done.
        dry: stop there, and write nothing.

    Raises:
        LossylensError: something is wrong or missing, or the store cannot be used.
    """
    check_fidelities(config.run.fidelity)
    plan = make_plan(config)
    with ExitStack() as stack:
        store = None
        if (config.run.out / "run.sqlite").exists():
            store = stack.enter_context(Store(config.run.out, writable=not dry))
        known = _known_pictures(store, with_failures=not config.run.retry_failed)
        with progress("Reading", None, "images") as step:
            material = collect(plan.benchmarks, config.run.limit, known, step)
        cost = estimate(plan, material, store)
        for line in describe_cost(plan, cost, retry_failed=config.run.retry_failed):
            say(line)
        if dry:
            return 0
        if store is None:
            store = stack.enter_context(Store(config.run.out, writable=True))
        with _recorded(store, config, plan):
            _do(config, plan, material, store, say)
            return store.count_failures()


def _do(
    config: Config, plan: Plan, material: Material, store: Store, say: Callable[[str], None]
) -> None:
    """Do what is not done: curve by curve, so that whole ones come early."""
    if config.run.retry_failed:
        store.forget_failures()
    store.forget_transient_failures()
    store.drop_lost_bitstreams(thorough=config.run.retry_failed)
    store.set_grid(plan.parts, plan.cells)
    store.add_images(map(_image_row, material.pictures.values()))
    for benchmark in plan.benchmarks:
        key = benchmark.part.key
        samples = enumerate(material.samples[key])
        store.set_samples(key, [_sample_row(*each) for each in samples])
    scoring = Scoring(plan, material, store, accept_failures=config.run.accept_failures)
    with LocalExecutor() as executor:
        for model in plan.models:
            _warn_of_crashes(model, store, say)
            for levels in plan.curves:
                encode_all(config, levels, material, executor, store)
                _answer(config, plan, model, levels, material, executor, store, scoring, say)
        executor.release()
        measure_all(config, plan, material, executor, store)
    for part, text in store.notes():
        say(f"Note: {_named(plan, part)}: {text}")
    if scoring.unscored:
        say(
            f"{scoring.unscored} cells are not scored, because questions failed for a reason"
            " that may pass (see the report). Start the same command again to ask these once"
            " more, or add run.accept_failures=true to score them as wrong answers."
        )


def _answer(
    config: Config,
    plan: Plan,
    model: Model,
    levels: Sequence[CodecLevel],
    material: Material,
    executor: Executor[Any, Any],
    store: Store,
    scoring: Scoring,
    say: Callable[[str], None],
) -> None:
    """Have a model answer at the levels of one codec; score each cell as it is finished."""
    due = {
        codec.part.key: sum(
            len(pending(cell, material, store)) for _, cell in plan.cells_of(model, codec)
        )
        for codec in levels
    }
    title = f"Answering, {model.choice.label}, {levels[0].choice.label}"
    with (
        progress(title, sum(due.values()), "questions") if any(due.values()) else _nothing() as step
    ):
        answering = Answering(config, plan, material, executor, store, step)
        for codec in levels:
            if due[codec.part.key]:
                answering.answer(model, codec)
            for cell, score, (_, bpp, _) in scoring.score(model, codec):
                rate = "" if bpp is None else f" at {bpp:.3f} bpp"
                say(f"Scored: {cell}: {score.value:.2f}{rate}")


def _warn_of_crashes(model: Model, store: Store, say: Callable[[str], None]) -> None:
    crashed = store.crashes(model.part.key)
    if crashed:
        say(
            f"vlm {model.choice.label!r} crashed at an earlier start; the {len(crashed)} images"
            " that it was asked about then are asked about last, one by one"
        )


def _named(plan: Plan, part: str) -> str:
    """Return what a part is called in messages."""
    for codec in plan.codecs:
        if codec.part.key == part:
            return f"codec {codec.choice.label!r} at {codec.level.name}"
    return next((f"vlm {m.choice.label!r}" for m in plan.models if m.part.key == part), part)


@contextmanager
def _nothing() -> Iterator[Step]:
    """A step that nobody sees."""

    class Unseen:
        def advance(self, count: int = 1) -> None:
            pass

    yield Unseen()


@contextmanager
def _recorded(store: Store, config: Config, plan: Plan) -> Iterator[None]:
    """Record the start of a run, and how it ends."""
    number = store.begin_run(config.values, make_manifest(config, plan))
    outcome = "error"
    try:
        yield
        outcome = "done"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        # When the disk is full, this fails as well, and matters less.
        with contextlib.suppress(StoreError):
            store.end_run(number, outcome)


def _known_pictures(store: Store | None, *, with_failures: bool) -> dict[str, Picture]:
    """Return the pictures that an earlier start has examined."""
    rows = store.rows("SELECT * FROM images") if store else []
    return {
        row["sha256"]: Picture(
            sha256=row["sha256"],
            file_bytes=row["bytes"],
            width=row["width"] or 0,
            height=row["height"] or 0,
            format=json.loads(row["format"] or "null"),
            failure=row["failure"] or "",
        )
        for row in rows
        if with_failures or row["failure"] is None
    }


def _image_row(picture: Picture) -> tuple[object, ...]:
    return (
        picture.sha256,
        picture.file_bytes,
        picture.width or None,
        picture.height or None,
        to_json(picture.format) if picture.format else None,
        picture.failure or None,
    )


def _sample_row(position: int, asked: Asked) -> tuple[object, ...]:
    sample = asked.sample
    question = to_json(dataclasses.asdict(sample.question))
    return (sample.id, position, asked.image, question, to_json(dict(sample.fields)))
