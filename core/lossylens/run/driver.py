"""A run: plan, encode, answer, score, measure.  Each step takes up where the store leaves off."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from lossylens.errors import DataError, RequirementError, StoreError
from lossylens.executor import Executor
from lossylens.failure import FaultError
from lossylens.grid.config import Config
from lossylens.grid.manifest import make_manifest
from lossylens.grid.plan import CodecLevel, Model, Plan, make_plan
from lossylens.registry.fidelity import check_fidelities
from lossylens.run.answering import Answering, Pending, pending
from lossylens.run.collect import Asked, Material, collect
from lossylens.run.cost import describe_cost, estimate
from lossylens.run.encoding import encode_all
from lossylens.run.executors.local import LocalExecutor
from lossylens.run.hours import describe_assumed, describe_hours
from lossylens.run.measuring import Measuring
from lossylens.run.needs import needs, versions
from lossylens.run.progress import Unseen, progress
from lossylens.run.scoring import Scoring
from lossylens.store.database import Store
from lossylens.store.jsonable import to_json
from lossylens.store.records import StoredSample


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
    try:
        plan = make_plan(config)
    except (RequirementError, DataError) as error:
        if not (dry and config.run.assumed):
            raise
        say(f"Not everything is here, so what follows is assumed (run.assumed): {error}")
        for line in describe_assumed(config):
            say(line)
        return 0
    with ExitStack() as stack:
        store = None
        if (config.run.out / "run.sqlite").exists():
            store = stack.enter_context(Store(config.run.out, writable=not dry))
        known = store.pictures() if store else {}
        if config.run.retry_failed:
            known = {image: each for image, each in known.items() if not each.failure}
        with progress("Reading", None, "images") as step:
            material = collect(plan.benchmarks, config.run.limit, known, step, config.shard)
        plan = plan.restricted(material.demands)
        cost = estimate(plan, material, store)
        for line in describe_cost(plan, cost, retry_failed=config.run.retry_failed):
            say(line)
        if dry:
            for line in describe_hours(config, plan, material, store):
                say(line)
        if dry:
            return 0
        chosen = config.executor
        built = config.registry.build_executor(chosen.spec.name, chosen.options)
        executor = stack.enter_context(built)
        executor.prepare(list(needs(config, plan)), versions(config), config.run.cache)
        if store is None:
            store = stack.enter_context(Store(config.run.out, writable=True))
        with _recorded(store, config, plan):
            _do(config, plan, material, store, executor, say)
            return store.count_failures()


def _do(
    config: Config,
    plan: Plan,
    material: Material,
    store: Store,
    executor: Executor[Any, Any],
    say: Callable[[str], None],
) -> None:
    """Do what is not done: curve by curve, so that whole ones come early."""
    if config.run.retry_failed:
        store.forget_failures()
    store.forget_transient_failures()
    store.drop_lost_bitstreams(thorough=config.run.retry_failed)
    store.set_grid(plan.parts, plan.cells)
    store.set_absences(plan.absences)
    store.add_pictures(material.pictures.values())
    for benchmark in plan.benchmarks:
        key = benchmark.part.key
        store.set_samples(key, map(_stored_sample, material.samples[key]))
    steps = _Steps(config, plan, material, store, say)
    for model in plan.models:
        if model.adaptor and (text := model.adaptor.remark(model.base)):
            store.add_note(model.part.key, text)
    for codec in plan.codecs:
        if codec.point.square is not None:
            store.add_note(
                codec.part.key,
                f"pictures are {codec.point.square} before they are coded; its rate counts the"
                " pixels of the originals, and all models and adaptors at it share this coding",
            )
    for models in plan.families:
        steps.do_curves(models, executor)
    executor.release()
    # What is measured of images stays in folders, which others do not see.
    with nullcontext(executor) if executor.shares_folder else LocalExecutor() as measuring:
        Measuring(config, plan, material, store).measure(measuring)
    steps.end()


class _Steps:
    """Encoding, answering and scoring, curve by curve.

    A plugin that is at fault is left out from then on; everything else is done.
    """

    def __init__(
        self,
        config: Config,
        plan: Plan,
        material: Material,
        store: Store,
        say: Callable[[str], None],
    ) -> None:
        self._config, self._plan, self._material = config, plan, material
        self._store, self._say = store, say
        self._scoring = Scoring(plan, material, store, accept_failures=config.run.accept_failures)
        self._faults: list[FaultError] = []
        self._broken: set[str] = set()

    def do_curves(self, models: Sequence[Model], executor: Executor[Any, Any]) -> None:
        """Do all that one VLM takes part in: as it is and with its adaptors, codec by codec."""
        models = list(models)
        for model in models:
            self._warn_of_crashes(model)
        for levels in self._plan.curves:
            due = [model for model in models if self._has_cells(model, levels)]
            codec = levels[0].choice.where
            if not due or codec in self._broken:
                continue
            try:
                encode_all(self._config, levels, self._material, executor, self._store)
            except FaultError as error:
                self._note(error)
                self._broken.add(codec)
                continue
            for model in due:
                try:
                    self._answer(model, levels, executor)
                except FaultError as error:
                    self._note(error)
                    if error.kind == "codec":
                        self._broken.add(codec)
                        break
                    models.remove(model)

    def _has_cells(self, model: Model, levels: Sequence[CodecLevel]) -> bool:
        return any(True for codec in levels for _ in self._plan.cells_of(model, codec))

    def _note(self, error: FaultError) -> None:
        self._faults.append(error)
        self._say(str(error))

    def _answer(
        self, model: Model, levels: Sequence[CodecLevel], executor: Executor[Any, Any]
    ) -> None:
        """Have a model answer at the levels of one codec; score each cell when it is finished."""
        due = [self._pending(model, codec) for codec in levels]
        title = f"Answering, {model.label}, {levels[0].choice.label}"
        count = sum(len(samples) for cells in due for _, samples in cells)
        with progress(title, count, "questions") if count else nullcontext(Unseen()) as step:
            answering = Answering(self._config, self._material, executor, self._store, step)
            for codec, cells in zip(levels, due, strict=True):
                if cells:
                    answering.answer(model, codec, cells)
                # A score is of all images; it is made when shares are merged.
                scored = () if self._config.shard else self._scoring.score(model, codec)
                for cell, score, scored_rate in scored:
                    rate = "" if scored_rate.mean is None else f" at {scored_rate.mean:.3f} bpp"
                    self._say(f"Scored: {cell}: {score.value:.2f}{rate}")

    def _pending(self, model: Model, codec: CodecLevel) -> Pending:
        cells = (cell for _, cell in self._plan.cells_of(model, codec))
        return pending(cells, self._material, self._store)

    def _warn_of_crashes(self, model: Model) -> None:
        crashed = self._store.crashes(model.part.key)
        if crashed:
            self._say(
                f"vlm {model.label} crashed at an earlier start; the {len(crashed)} images"
                " that it was asked about then are asked about last, one by one"
            )

    def end(self) -> None:
        """Say what a reader of the results should know.

        Raises:
            FaultError: a plugin was at fault.
        """
        for part, text in self._store.notes():
            self._say(f"Note: {self._named(part)}: {text}")
        if self._scoring.unscored:
            self._say(
                f"{self._scoring.unscored} cells are not scored, because questions failed for a"
                " reason that may pass (see the report). Start the same command again to ask"
                " these once more, or add run.accept_failures=true to score them as wrong."
            )
        if self._faults:
            raise self._faults[0]

    def _named(self, part: str) -> str:
        """Return what a part is called in messages."""
        for codec in self._plan.codecs:
            if codec.part.key == part:
                return f"codec {codec.choice.label!r} at {codec.level.name}"
        models = (each for each in self._plan.models if each.part.key == part)
        return next((f"vlm {each.label}" for each in models), part)


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


def _stored_sample(asked: Asked) -> StoredSample:
    sample = asked.sample
    shown = zip(asked.images, sample.images, strict=True)
    return StoredSample(
        id=sample.id,
        images=tuple((image, given.context) for image, given in shown),
        question=to_json(dataclasses.asdict(sample.question)),
        fields=to_json(dict(sample.fields)),
        cluster=asked.cluster,
    )
