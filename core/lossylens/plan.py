"""The grid of a run: which cells there are, and what decides their results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from math import isfinite
from numbers import Integral, Real
from typing import Any

from lossylens.adaptor import AdaptorSpec
from lossylens.codec import Level
from lossylens.config import NO_ADAPTOR, Choice, CodecChoice, Config
from lossylens.environment import Place
from lossylens.errors import ConfigError
from lossylens.plugins import Registry
from lossylens.spec import OPERATIONAL
from lossylens.task import Task, TaskSpec
from lossylens.vlm import Vlm, VlmSpec

#: Part of every key; raised when the core itself changes pixels or prompts.
KEY_VERSION = 1

_NOTHING = object()


@dataclass(frozen=True)
class Part:
    """A codec at a level, a VLM with its adaptor, or a task, by what it is made of.

    Attributes:
        kind: ``codec``, ``vlm`` or ``task``.
        description: plugin, version, options and provenance; equal descriptions
            give equal results.
    """

    kind: str
    description: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Hash of the description."""
        return short_hash([KEY_VERSION, self.kind, self.description])


@dataclass(frozen=True)
class CodecLevel:
    """A codec at one level."""

    choice: CodecChoice
    level: Level
    part: Part

    @property
    def encodes(self) -> bool:
        """Whether there is a bitstream; a codec of nominal rate passes images on as they are."""
        return self.choice.spec.nominal_bpp is None


@dataclass(frozen=True)
class Model:
    """A VLM, with an adaptor or without."""

    choice: Choice[VlmSpec]
    adaptor: Choice[AdaptorSpec] | None
    part: Part

    @property
    def adaptor_label(self) -> str:
        """Name of the adaptor in reports."""
        return self.adaptor.label if self.adaptor else NO_ADAPTOR


@dataclass(frozen=True)
class Benchmark:
    """A task with its data."""

    choice: Choice[TaskSpec]
    task: Task
    part: Part


@dataclass(frozen=True)
class Cell:
    """One VLM, adaptor, codec, level and task: labels, and keys of their parts."""

    vlm: str
    adaptor: str
    codec: str
    level: str
    task: str
    vlm_key: str
    codec_key: str
    task_key: str

    @property
    def key(self) -> str:
        """Hash of the parts' keys."""
        return short_hash([self.vlm_key, self.codec_key, self.task_key])

    def __str__(self) -> str:
        """Return the labels."""
        model = self.vlm if self.adaptor == NO_ADAPTOR else f"{self.vlm} with {self.adaptor}"
        return f"{model}, {self.codec} {self.level}, {self.task}"


@dataclass(frozen=True)
class Plan:
    """The grid: every model at every codec and level on every task."""

    codecs: tuple[CodecLevel, ...]
    models: tuple[Model, ...]
    benchmarks: tuple[Benchmark, ...]

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

    def cells_of(self, model: Model, codec: CodecLevel) -> Iterator[tuple[Benchmark, Cell]]:
        """Yield the tasks with the cells of one model and one codec and level."""
        for benchmark in self.benchmarks:
            yield (
                benchmark,
                Cell(
                    vlm=model.choice.label,
                    adaptor=model.adaptor_label,
                    codec=codec.choice.label,
                    level=codec.level.name,
                    task=benchmark.choice.label,
                    vlm_key=model.part.key,
                    codec_key=codec.part.key,
                    task_key=benchmark.part.key,
                ),
            )


def make_plan(config: Config) -> Plan:
    """Build every task, codec and VLM once, to learn what decides its results.

    Nothing is written, so what is missing or misconfigured shows before a run
    folder is made.

    Raises:
        LossylensError: one of them cannot be built, or two are the same.
    """
    with config.environment.out_of_messages():
        plan = Plan(
            codecs=tuple(_codec_levels(config)),
            models=tuple(_models(config)),
            benchmarks=tuple(_benchmarks(config)),
        )
    for group in (plan.codecs, plan.models, plan.benchmarks):
        seen: dict[str, str] = {}
        for each in group:
            where = each.choice.where
            other = seen.setdefault(each.part.key, where)
            if other != where:
                raise ConfigError(f"{where}: the same plugin with the same options as {other}.")
    return plan


def _benchmarks(config: Config) -> Iterator[Benchmark]:
    for choice in config.tasks:
        task = config.registry.build_task(choice.spec.name, choice.options)
        description = {**described(choice), "fingerprint": task.fingerprint()}
        # A new version scores anew (see lossylens.scoring); it need not ask anew.
        del description["version"]
        yield Benchmark(choice, task, Part("task", description))


def _codec_levels(config: Config) -> Iterator[CodecLevel]:
    for choice in config.codecs:
        for level in choice.levels:
            codec = config.registry.build_codec(choice.spec.name, level, choice.options)
            description = {
                **described(choice),
                "level": level.name,
                "parameters": dict(level.parameters),
                "provenance": _provenance(config, codec.provenance()),
                "evaluator_parity": config.run.evaluator_parity,
            }
            yield CodecLevel(choice, level, Part("codec", description))


def _provenance(config: Config, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plugin's provenance without values from the environment, but with their hashes."""
    return {name: _hidden(config, value) for name, value in provenance.items()}


def _hidden(config: Config, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _hidden(config, member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(config, member) for member in value]
    if not isinstance(value, str):
        return value
    hidden = config.environment.hidden(value)
    digest = hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()
    return value if hidden == value else f"{hidden} (SHA-256 {digest})"


def _models(config: Config) -> Iterator[Model]:
    for choice in config.vlms:
        for adaptor in config.adaptors:
            description = {
                **described(choice),
                "adaptor": described(adaptor) if adaptor else None,
                # Not kept: several large VLMs would not fit side by side.
                "provenance": _provenance(
                    config, build_model(config.registry, choice, adaptor).provenance()
                ),
            }
            yield Model(choice, adaptor, Part("vlm", description))


def build_model(
    registry: Registry, choice: Choice[VlmSpec], adaptor: Choice[AdaptorSpec] | None
) -> Vlm:
    """Build a VLM and attach its adaptor."""
    vlm = registry.build_vlm(choice.spec.name, choice.options)
    if adaptor is None:
        return vlm
    return registry.build_adaptor(adaptor.spec.name, adaptor.options).attach(vlm)


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


def plain(value: Any) -> Any:
    """Return *value* as JSON and the store can hold it; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        # Half a surrogate pair, from a file name or a model, has no UTF-8.
        return value.encode(errors="replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if isfinite(value) else None
    return str(value)


def short_hash(value: Any) -> str:
    """Return a hash of a JSON value, short enough to read and long enough to be unique."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
