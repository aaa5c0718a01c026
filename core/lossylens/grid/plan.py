"""The grid of a run: which cells there are, and what decides their results."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from typing import Any

from lossylens.adaptor import Adaptor, Needs
from lossylens.codec import CodecPoint, Level
from lossylens.errors import ConfigError
from lossylens.failure import guarded
from lossylens.grid.config import AdaptorChoice, Choice, CodecChoice, Config
from lossylens.options.environment import Environment, Place
from lossylens.registry.plugins import Registry
from lossylens.spec import OPERATIONAL
from lossylens.store.jsonable import plain
from lossylens.store.records import NO_ADAPTOR, Absence, Cell, Part, with_adaptor
from lossylens.task import Task, TaskSpec
from lossylens.vlm import Vlm, VlmIdentity, VlmSpec

_NOTHING = object()

# Why the configuration itself leaves cells out; they are no absences.
_NOT_WANTED = "not among the points at which the configuration has it measured"


@dataclass(frozen=True)
class CodecLevel:
    """A codec at one level.

    Attributes:
        point: what adaptors learn of it.
        batch_images, wants_device: see :class:`~lossylens.codec.Codec`.
    """

    choice: CodecChoice
    level: Level
    part: Part
    point: CodecPoint
    batch_images: int = 1
    wants_device: bool = False

    @property
    def encodes(self) -> bool:
        """Whether there is a bitstream; a codec of nominal rate passes images on as they are."""
        return self.choice.spec.nominal_bpp is None


@dataclass(frozen=True)
class ChosenAdaptor:
    """An adaptor as configured.

    Attributes:
        light: the adaptor, whose weights are not loaded.
        encodes: whether it replaces the vision encoder.
    """

    choice: AdaptorChoice
    light: Adaptor
    provenance: Mapping[str, str]

    @property
    def encodes(self) -> bool:
        """Whether it replaces the vision encoder."""
        return type(self.light).encoder is not Adaptor.encoder

    def unfit(self, vlm: BaseModel, codec: CodecLevel) -> str:
        """Return why it does not serve *vlm* behind *codec*, or ``""``."""
        needs, point = self.light.needs, codec.point
        if codec.encodes and not self.choice.is_at(codec.choice.label, codec.level.name):
            return _NOT_WANTED
        if self.encodes and not vlm.open:
            return f"vlm {vlm.identity.label} gives no access to its vision encoder"
        if Needs.LATENTS in needs and not point.space:
            return f"codec {point.label} has no latents"
        # With the pixels it has something to go by: an image that was not compressed.
        if Needs.PIXELS not in needs and Needs.BITSTREAM in needs and not codec.encodes:
            return f"codec {point.label} has no bitstream"
        with guarded(f"adaptor {self.choice.spec.name!r}", "fits()"):
            return self.light.fits(vlm.identity, point)

    def remark(self, vlm: BaseModel) -> str:
        """Return what a reader of its results with *vlm* should know, or ``""``."""
        with guarded(f"adaptor {self.choice.spec.name!r}", "remark()"):
            return self.light.remark(vlm.identity)

    def is_unseen(self, vlm: BaseModel, codec: CodecLevel) -> bool:
        """Whether its training for *vlm* had not *codec* at this level."""
        with guarded(f"adaptor {self.choice.spec.name!r}", "is_seen()"):
            return self.light.is_seen(vlm.identity, codec.point) is False


@dataclass(frozen=True)
class BaseModel:
    """A VLM as it is.

    Attributes:
        open: whether it gives access to its vision encoder.
    """

    choice: Choice[VlmSpec]
    identity: VlmIdentity
    open: bool


@dataclass(frozen=True)
class Model:
    """A VLM, with an adaptor or without."""

    base: BaseModel
    adaptor: ChosenAdaptor | None
    part: Part

    @property
    def choice(self) -> Choice[VlmSpec]:
        """The VLM in the configuration."""
        return self.base.choice

    @property
    def adaptor_label(self) -> str:
        """Name of the adaptor in reports."""
        return self.adaptor.choice.label if self.adaptor else NO_ADAPTOR

    @property
    def label(self) -> str:
        """Name in messages."""
        return with_adaptor(self.choice.label, self.adaptor_label)


@dataclass(frozen=True)
class Benchmark:
    """A task with its data."""

    choice: Choice[TaskSpec]
    task: Task
    part: Part


@dataclass(frozen=True)
class Plan:
    """The grid: models at codecs and levels on tasks, as far as they go together.

    Attributes:
        unfit: why a model, codec level and task do not, by their keys.
    """

    codecs: tuple[CodecLevel, ...]
    models: tuple[Model, ...]
    benchmarks: tuple[Benchmark, ...]
    unfit: Mapping[tuple[str, str, str], str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the grid is made of."""
        return (
            *(codec.part for codec in self.codecs),
            *(model.part for model in self.models),
            *(benchmark.part for benchmark in self.benchmarks),
        )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells, tasks varying fastest."""
        return tuple(
            cell
            for model in self.models
            for codec in self.codecs
            for _, cell in self.cells_of(model, codec)
        )

    @property
    def curves(self) -> tuple[tuple[CodecLevel, ...], ...]:
        """The codecs, each with its levels."""
        groups = groupby(self.codecs, lambda codec: codec.choice.where)
        return tuple(tuple(levels) for _, levels in groups)

    @property
    def families(self) -> tuple[tuple[Model, ...], ...]:
        """The VLMs, each as it is and with its adaptors."""
        groups = groupby(self.models, lambda model: model.choice.where)
        return tuple(tuple(models) for _, models in groups)

    @property
    def absences(self) -> Iterator[Absence]:
        """What is left out, in the order of the grid."""
        for model, codec, benchmark in self._combinations():
            reason = self.unfit.get((model.part.key, codec.part.key, benchmark.part.key))
            if reason and reason != _NOT_WANTED:
                cell = _cell(model, codec, benchmark)
                labels = (cell.vlm, cell.adaptor, cell.codec, cell.level, cell.task)
                yield Absence(*labels, reason)

    @property
    def unseen(self) -> Iterator[tuple[Model, CodecLevel]]:
        """Adapted models with the codecs and levels that have cells and no training had."""
        for model, codec in product(self.models, self.codecs):
            adaptor, has_cells = model.adaptor, any(True for _ in self.cells_of(model, codec))
            if adaptor and codec.encodes and has_cells and adaptor.is_unseen(model.base, codec):
                yield model, codec

    def _combinations(self) -> Iterator[tuple[Model, CodecLevel, Benchmark]]:
        yield from product(self.models, self.codecs, self.benchmarks)

    def cells_of(self, model: Model, codec: CodecLevel) -> Iterator[tuple[Benchmark, Cell]]:
        """Yield the tasks with the cells of one model and one codec and level."""
        for benchmark in self.benchmarks:
            if (model.part.key, codec.part.key, benchmark.part.key) not in self.unfit:
                yield benchmark, _cell(model, codec, benchmark)

    def restricted(self, demands: Mapping[str, Demand]) -> Plan:
        """Return the plan without the tasks that a VLM cannot do.

        Args:
            demands: what the questions of a task ask of a VLM, by task key.

        Raises:
            ConfigError: a VLM can do none of the tasks, or a task has no VLM.
        """
        unfit = dict(self.unfit)
        for model, benchmark in product(self.models, self.benchmarks):
            reason = _beyond(model, benchmark, demands[benchmark.part.key])
            if reason:
                for codec in self.codecs:
                    key = (model.part.key, codec.part.key, benchmark.part.key)
                    unfit.setdefault(key, reason)
            if demands[benchmark.part.key].boxes:
                for codec in self.codecs:
                    if codec.point.square is not None:
                        key = (model.part.key, codec.part.key, benchmark.part.key)
                        unfit.setdefault(key, _of_the_square(codec, benchmark))
        plan = replace(self, unfit=unfit)
        for kind in ("vlm", "task"):
            _check_used(plan, kind)
        return plan


@dataclass(frozen=True)
class Demand:
    """What the questions of a task ask of a VLM.

    Attributes:
        images: most images of one question.
        boxes: whether any is to be answered with a box.
    """

    images: int
    boxes: bool


def _beyond(model: Model, benchmark: Benchmark, demand: Demand) -> str:
    """Return why a VLM cannot do a task, or ``""``."""
    spec, task = model.choice.spec, benchmark.choice.label
    if demand.images > spec.max_images:
        takes = "1 image" if spec.max_images == 1 else f"{spec.max_images} images"
        return (
            f"vlm {model.choice.label} takes {takes} at a time, task {task} shows up to"
            f" {demand.images}"
        )
    if demand.boxes and not spec.grounds:
        return f"vlm {model.choice.label} gives no boxes, which task {task} asks for"
    return ""


def _of_the_square(codec: CodecLevel, benchmark: Benchmark) -> str:
    return (
        f"codec {codec.point.label} codes squares, in which boxes, which task"
        f" {benchmark.choice.label} asks for, are not where they are in the picture"
    )


def _check_used(plan: Plan, kind: str) -> None:
    """Make sure that every VLM, or every task, has a cell."""
    used = {getattr(cell, kind) for cell in plan.cells}
    given: Sequence[Model | Benchmark] = plan.models if kind == "vlm" else plan.benchmarks
    for each in given:
        label = each.choice.label
        if label not in used:
            reasons = dict.fromkeys(
                absence.reason for absence in plan.absences if getattr(absence, kind) == label
            )
            raise ConfigError(f"{each.choice.where}: no cell is left: {'; '.join(reasons)}.")


def _cell(model: Model, codec: CodecLevel, benchmark: Benchmark) -> Cell:
    return Cell(
        vlm=model.choice.label,
        adaptor=model.adaptor_label,
        codec=codec.choice.label,
        level=codec.level.name,
        task=benchmark.choice.label,
        vlm_key=model.part.key,
        codec_key=codec.part.key,
        task_key=benchmark.part.key,
    )


def make_plan(config: Config) -> Plan:
    """Build every task, codec, VLM and adaptor once, to learn what decides its results.

    Nothing is written and no weights are loaded, so what is missing or misconfigured shows
    before a run folder is made.

    Raises:
        LossylensError: one of them cannot be built, two are the same, or an adaptor serves
            nothing of the grid.
    """
    parity, environment = config.run.evaluator_parity, config.environment
    with environment.out_of_messages():
        codecs = tuple(codec_levels(config.registry, config.codecs, environment, parity=parity))
        benchmarks = tuple(_benchmarks(config))
        adaptors = tuple(_adaptors(config))
        models = tuple(_models(config, adaptors))
    for group in (codecs, models, benchmarks):
        seen: dict[str, str] = {}
        for each in group:
            where = each.choice.where
            other = seen.setdefault(each.part.key, where)
            if other != where:
                raise ConfigError(f"{where}: the same plugin with the same options as {other}.")
    reasons = {
        (model.part.key, codec.part.key): model.adaptor.unfit(model.base, codec)
        for model, codec in product(models, codecs)
        if model.adaptor
    }
    for adaptor in adaptors:
        _check_fits(adaptor, models, codecs, reasons)
    unfit = {
        (*keys, benchmark.part.key): reason
        for keys, reason in reasons.items()
        for benchmark in benchmarks
        if reason
    }
    return Plan(codecs, models, benchmarks, unfit)


def _check_fits(
    adaptor: ChosenAdaptor,
    models: Sequence[Model],
    codecs: Sequence[CodecLevel],
    reasons: Mapping[tuple[str, str], str],
) -> None:
    """Make sure that an adaptor serves some model behind some codec."""
    mine = [model for model in models if model.adaptor is adaptor]
    found = [reasons[model.part.key, codec.part.key] for model, codec in product(mine, codecs)]
    if all(found):
        some = "; ".join(list(dict.fromkeys(found))[:3])
        raise ConfigError(f"{adaptor.choice.where}: serves nothing of this grid: {some}.")


def _benchmarks(config: Config) -> Iterator[Benchmark]:
    for choice in config.tasks:
        with guarded(f"task {choice.spec.name!r}", "building it"):
            task = config.registry.build_task(choice.spec.name, choice.options)
            description = {**described(choice), "fingerprint": task.fingerprint()}
        # A new version scores anew (see lossylens.run.scoring); it need not ask anew.
        del description["version"]
        yield Benchmark(choice, task, Part("task", description))


def codec_levels(
    registry: Registry,
    choices: Iterable[CodecChoice],
    environment: Environment,
    *,
    parity: bool,
) -> Iterator[CodecLevel]:
    """Yield codecs at their levels, each built once to learn what decides its bitstreams.

    Raises:
        LossylensError: one cannot be built.
    """
    for choice in choices:
        for level in choice.levels:
            with guarded(f"codec {choice.spec.name!r}", "building it"):
                codec = registry.build_codec(choice.spec.name, level, choice.options)
                provenance = dict(codec.provenance())
                batch, device, space = codec.batch_images, codec.wants_device, codec.space
            description = {
                **described(choice),
                "level": level.name,
                "parameters": dict(level.parameters),
                "provenance": _provenance(environment, provenance),
                "evaluator_parity": parity,
            }
            if choice.square is not None:
                description["square"] = dataclasses.asdict(choice.square)
            part = Part("codec", description)
            point = CodecPoint(
                codec=choice.spec.name,
                level=level.name,
                label=choice.label,
                key=part.key,
                parameters=dict(level.parameters),
                provenance=provenance,
                space=space,
                square=choice.square,
            )
            yield CodecLevel(choice, level, part, point, max(1, batch), device)


def _adaptors(config: Config) -> Iterator[ChosenAdaptor]:
    for choice in config.adaptors:
        with guarded(f"adaptor {choice.spec.name!r}", "building it"):
            light = config.registry.build_adaptor(choice.spec.name, choice.options)
            yield ChosenAdaptor(choice, light, _provenance(config.environment, light.provenance()))


def _models(config: Config, adaptors: Sequence[ChosenAdaptor]) -> Iterator[Model]:
    for choice in config.vlms:
        with guarded(f"vlm {choice.spec.name!r}", "building it"):
            # Not kept: several large VLMs would not fit side by side.
            vlm = config.registry.build_vlm(choice.spec.name, choice.options)
            provenance = _provenance(config.environment, vlm.provenance())
        identity = VlmIdentity(choice.spec.name, choice.label, provenance)
        base = BaseModel(choice, identity, type(vlm).with_encoder is not Vlm.with_encoder)
        description = {**described(choice), "adaptor": None, "provenance": provenance}
        if config.run.baseline:
            yield Model(base, None, Part("vlm", description))
        for adaptor in adaptors:
            adapted = {**described(adaptor.choice), "provenance": dict(adaptor.provenance)}
            yield Model(base, adaptor, Part("vlm", {**description, "adaptor": adapted}))


def _provenance(environment: Environment, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plugin's provenance without values from the environment, but with their hashes."""
    return {name: _hidden(environment, value) for name, value in provenance.items()}


def _hidden(environment: Environment, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _hidden(environment, member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(environment, member) for member in value]
    if not isinstance(value, str):
        return value
    hidden = environment.hidden(value)
    digest = hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()
    return value if hidden == value else f"{hidden} (SHA-256 {digest})"


def described(choice: Choice[Any]) -> dict[str, Any]:
    """Return what a choice of a plugin is made of, as JSON can hold it.

    Paths are as written.  So is what the environment decides; in its stead there is the
    SHA-256 of each value.
    """
    options = plain(_deciding(choice.options if choice.written is None else choice.written))
    digests = {}
    for place, text in choice.environment.texts.items():
        if _put(options, place, text):
            digests[".".join(map(str, place))] = choice.environment.digests[place]
    return {
        "name": choice.spec.name,
        "distribution": choice.found.plugin.distribution,
        "version": choice.found.plugin.version,
        "options": options,
        **({"environment": digests} if digests else {}),
    }


def _put(options: Any, place: Place, text: str) -> bool:
    """Put *text* at *place*; False if there is no such option, or it decides nothing."""
    *parents, last = place
    for key in parents:
        options = _member(options, key)
    if _member(options, last) is _NOTHING:
        return False
    options[last] = text
    return True


def _member(options: Any, key: str | int) -> Any:
    if isinstance(options, dict):
        return options.get(key, _NOTHING)
    if isinstance(options, list) and isinstance(key, int) and key < len(options):
        return options[key]
    return _NOTHING


def _deciding(options: Any) -> Any:
    """Return *options* as a mapping, without those that cannot change a result."""
    if isinstance(options, list | tuple):
        return [_deciding(member) for member in options]
    if isinstance(options, Mapping):
        return {key: _deciding(member) for key, member in options.items()}
    if not dataclasses.is_dataclass(options) or isinstance(options, type):
        return options
    return {
        each.name: _deciding(getattr(options, each.name))
        for each in dataclasses.fields(options)
        if not OPERATIONAL.items() <= each.metadata.items()
    }
