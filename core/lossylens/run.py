"""A run: plan, encode, answer, score, measure.  Each step takes up where the store leaves off."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from lossylens.answering import answer_all
from lossylens.collect import Asked, Material, Picture, collect
from lossylens.config import Config
from lossylens.cost import describe_cost, estimate
from lossylens.encoding import encode_all
from lossylens.errors import StoreError
from lossylens.fidelity import check_fidelities
from lossylens.manifest import make_manifest
from lossylens.measuring import measure_all
from lossylens.plan import Plan, make_plan
from lossylens.progress import progress
from lossylens.scoring import score_all
from lossylens.sharing import SharedBitstreams
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
            _do(config, plan, material, store)
            return store.count_failures()


def _do(config: Config, plan: Plan, material: Material, store: Store) -> None:
    if config.run.retry_failed:
        store.forget_failures()
    store.drop_lost_bitstreams(thorough=config.run.retry_failed)
    store.set_grid(plan.parts, plan.cells)
    store.add_images(map(_image_row, material.pictures.values()))
    for benchmark in plan.benchmarks:
        key = benchmark.part.key
        samples = enumerate(material.samples[key])
        store.set_samples(key, [_sample_row(*each) for each in samples])
    parity = config.run.evaluator_parity
    shared = SharedBitstreams(config.run.cache) if config.run.cache else None
    encode_all(plan, material, store, workers=config.workers, parity=parity, shared=shared)
    answer_all(config, plan, material, store)
    score_all(plan, material, store)
    measure_all(config, plan, material, store)


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
