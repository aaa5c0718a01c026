"""Configuration of a run: YAML and overrides in, a checked choice of plugins out.

Every mistake raises :class:`~lossylens.errors.ConfigError` with its place, such
as ``codecs.jpeg.levels[2]`` (items count from 0), before anything is written.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lossylens.adaptor import AdaptorSpec
from lossylens.codec import CodecSpec, Level, Square
from lossylens.errors import ConfigError, LossylensError, PluginError
from lossylens.executor import HALF_OF_MACHINE, ExecutorSpec
from lossylens.grid.shard import Shard
from lossylens.names import canonical, suggestion
from lossylens.options.environment import Environment, resolve
from lossylens.options.overrides import Untyped, assign, plain_text
from lossylens.options.resolving import options_as_written, resolve_options
from lossylens.registry.fidelity import FIDELITIES
from lossylens.registry.plugin_info import Registered, S
from lossylens.registry.plugins import Registry, load_registry
from lossylens.spec import PluginSpec
from lossylens.store.records import NO_ADAPTOR
from lossylens.task import TaskSpec
from lossylens.vlm import VlmSpec

#: Sections that must be there and not empty, with an example for the error.
REQUIRED = {"codecs": "jpeg:", "vlms": "nano:", "tasks": "pope: {data: POPE.tsv}"}
SECTIONS = (*REQUIRED, "adaptors", "run", "plugins")


#: Gigabytes with which no process starts.
_LEAST_MEMORY = 0.001


@dataclass
class AssumedOptions:
    """What a dry run goes by where nothing is there to count or measure.

    Attributes:
        images, questions: of a task.
        megapixels: of each of its images.
        seconds: that a codec takes for an image, to encode it at one level, or a VLM for a
            question.
    """

    images: int = 0
    questions: int = 0
    megapixels: float = 0.3
    seconds: float | None = None


@dataclass
class RunOptions:
    """The section ``run``.

    Attributes:
        out: the run folder; made if it is not there, resumed if it is.
        executor: where the work is done: the name of an executor, or a mapping of its
            options with its name as ``plugin``; ``local`` is this machine.
        baseline: run the VLMs as they are, beside their adaptors.
        cache: a folder of bitstreams that runs share, so that none is made twice;
            null to share none.
        workers: encoding processes; null for as many as there is room for, one per usable CPU.
        evaluator_parity: repeat the reference evaluator's JPEG steps; see
            :mod:`lossylens.images.pixels`.
        limit: only the first so many images of each task.
        shard: a share of the images, such as 3/16, which is done in a run folder of its own;
            `lossylens merge` joins the folders.
        decode_ahead: how many decoded images may wait for the VLM.
        decode_ahead_megapixels: how many million pixels these may have together.
        timeout: seconds that one image may take to be encoded, decoded or answered.
        memory: gigabytes that one process of a codec may take; null for half of the machine's.
        retry_failed: try again what failed in an earlier start of this run.
        accept_failures: score what failed for a reason that may pass (a server, memory) as
            wrong answers, instead of leaving its cells unscored until it is asked again.
        uncompressed: add the codec ``uncompressed`` to the grid.
        fidelity: metrics by which decoded images are compared with their originals,
            members of :data:`~lossylens.registry.fidelity.FIDELITIES`.
        assumed: by place in the configuration, such as ``codecs.vtm: {seconds: 60}``, what
            a dry run goes by.
    """

    out: Path = MISSING
    cache: Path | None = None
    executor: Any = "local"
    baseline: bool = True
    workers: int | None = None
    evaluator_parity: bool = False
    limit: int | None = None
    shard: str | None = None
    decode_ahead: int = 16
    decode_ahead_megapixels: float = 100.0
    timeout: float = 3600.0
    memory: float | None = None
    retry_failed: bool = False
    accept_failures: bool = False
    uncompressed: bool = True
    fidelity: list[str] = field(default_factory=list)
    assumed: dict[str, AssumedOptions] = field(default_factory=dict)


@dataclass
class PluginOptions:
    """The section ``plugins``: which installed plugins are loaded.

    Attributes:
        only: nothing but these.
        disable: all but these.
    """

    only: list[str] | None = None
    disable: list[str] | None = None


#: Sections whose keys are settings, with their dataclasses.
SETTINGS: Mapping[str, type] = {"run": RunOptions, "plugins": PluginOptions}


@dataclass
class EntryOptions:
    """What an entry of a section of plugins takes besides the options of the plugin itself.

    Attributes:
        plugin: the plugin's name, where the entry has a name of its own.
    """

    plugin: str | None = None


@dataclass
class CodecEntryOptions(EntryOptions):
    """What an entry of the section ``codecs`` takes.

    Attributes:
        levels: names of levels, or the name of a set of them; null for those published.
        square: what pictures become before they are coded, such as ``{side: 384, fit: pad}``
            for a VLM that pads them and sees squares of 336; null to code them as they are.
            Rates count the pixels of the original in either case.
    """

    levels: list[str] | str | None = None
    square: dict[str, Any] | None = None


@dataclass
class SquareOptions:
    """The key ``square`` of a codec; see :class:`~lossylens.codec.Square`.

    Attributes:
        side: in pixels.
        fit: ``pad``, ``crop`` or ``squash``.
        border: RGB samples of what pads.
    """

    side: int = MISSING
    fit: str = "pad"
    border: list[int] = field(default_factory=lambda: [122, 116, 104])


@dataclass
class AdaptorEntryOptions(EntryOptions):
    """What an entry of the section ``adaptors`` takes.

    Attributes:
        points: where alone it is measured, beside uncompressed images, as levels by codec:
            ``{jpeg: [q1]}``; null for everywhere.
    """

    points: dict[str, list[str]] | None = None


#: Sections of plugins: the kind of plugin, and what each entry takes.
PLUGIN_SECTIONS: Mapping[str, tuple[str, type[EntryOptions]]] = {
    "codecs": ("codec", CodecEntryOptions),
    "vlms": ("vlm", EntryOptions),
    "tasks": ("task", EntryOptions),
    "adaptors": ("adaptor", AdaptorEntryOptions),
}


@dataclass(frozen=True)
class Choice(Generic[S]):
    """A plugin that the configuration names, with its options.

    Attributes:
        label: what reports call it: the key in the configuration where the key
            ``plugin`` names the plugin, else the plugin's canonical name.
        where: its place in the configuration, such as ``codecs.jpeg``.
        found: its declaration and where that comes from.
        options: an instance of the plugin's options class.
        written: the same with paths as they were written, relative ones too; they are
            part of keys, which do not depend on where a run is started.
        environment: what options owe to the environment.
    """

    label: str
    where: str
    found: Registered[S]
    options: Any
    written: Any = field(default=None, kw_only=True)
    environment: Environment = field(default_factory=Environment, kw_only=True)

    @property
    def spec(self) -> S:
        """Its declaration."""
        return self.found.spec


C = TypeVar("C", bound=Choice[Any])


@dataclass(frozen=True)
class CodecChoice(Choice[CodecSpec]):
    """A codec with the levels to be run, and the square that it is given, if any."""

    levels: tuple[Level, ...]
    square: Square | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class AdaptorChoice(Choice[AdaptorSpec]):
    """An adaptor, with where it is to be measured.

    Attributes:
        points: levels by codec, labels both, beside uncompressed images; None for everywhere.
    """

    points: Mapping[str, tuple[str, ...]] | None = field(default=None, kw_only=True)

    def is_at(self, codec: str, level: str) -> bool:
        """Whether it is to be measured behind a codec at a level."""
        return self.points is None or level in self.points.get(codec, ())


@dataclass(frozen=True)
class Config:
    """A checked configuration.

    Attributes:
        adaptors: to be compared with the VLM as it is.
        values: the configuration as written, overrides included and ``${...}`` not
            resolved, for the store.
        environment: what the values that it was resolved to owe to the environment.
        folders: ``run.out`` and ``run.cache`` as they were written, by their paths.
        registry: the plugins that it was checked against.
    """

    codecs: tuple[CodecChoice, ...]
    vlms: tuple[Choice[VlmSpec], ...]
    tasks: tuple[Choice[TaskSpec], ...]
    adaptors: tuple[AdaptorChoice, ...]
    executor: Choice[ExecutorSpec]
    run: RunOptions
    values: Mapping[str, Any] = field(repr=False)
    registry: Registry = field(repr=False, compare=False)
    environment: Environment = field(default_factory=Environment)
    folders: Mapping[str, str] = field(default_factory=dict)

    def readable(self, text: str) -> str:
        """Return *text* with the folders of the run as written."""
        for path, written in self.folders.items():
            place = re.compile(rf"(?<![\w/.-]){re.escape(path)}(?![\w.-])")
            text = place.sub(written.replace("\\", "\\\\"), text)
        return text

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Let errors speak of folders, and of what the environment decides, as written."""
        try:
            yield
        except LossylensError as error:
            text = self.environment.hidden(self.readable(str(error)))
            if text == str(error):
                raise
            raise type(error)(text) from error

    @property
    def shard(self) -> Shard | None:
        """The share of the images that is done; None for all."""
        return Shard.of(self.run.shard) if self.run.shard else None

    @property
    def memory(self) -> int:
        """Bytes that one process of a codec may take."""
        return HALF_OF_MACHINE if self.run.memory is None else int(1e9 * self.run.memory)


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read and check a configuration.

    Args:
        path: the YAML file.
        overrides: ``key=value``, such as ``codecs.jpeg.optimize=true``.

    Raises:
        ConfigError: see the module.
        PluginError: an allow or deny list names an unknown plugin.
    """
    written, untyped = _read_written(path, overrides)
    values, environment = _resolved(written, untyped, path)
    with environment.out_of_messages():
        _check_sections(values, path)
        plugins = _section_options(PluginOptions, "plugins", values)
        registry = load_registry(only=plugins.only, disable=plugins.disable)
        return check_config(values, registry, written, environment)


def read_values(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return the content of *path* with *overrides* applied and ``${...}`` resolved.

    Raises:
        ConfigError: the file cannot be read, is no YAML mapping or has a key twice;
            an override is not ``key=value``; a section is unknown or missing.
    """
    values, environment = read_yaml(path, overrides)
    with environment.out_of_messages():
        _check_sections(values, path)
    return values


def read_yaml(path: Path, overrides: Iterable[str] = ()) -> tuple[dict[str, Any], Environment]:
    """Return the mapping in *path* with *overrides* applied and ``${...}`` resolved.

    With it comes what its values owe to the environment.

    Raises:
        ConfigError: the file cannot be read, is no YAML mapping or has a key twice;
            an override is not ``key=value``.
    """
    return _resolved(*_read_written(path, overrides), path)


def _read_written(path: Path, overrides: Iterable[str]) -> tuple[dict[str, Any], list[list[str]]]:
    """Return the mapping in *path* with *overrides*, and where those are text of no type."""
    try:
        loaded = OmegaConf.load(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {path}: {reason}") from error
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_problem(path, error)) from error
    values = OmegaConf.to_container(loaded, resolve=False)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping, one key for each section or option")
    given = [assign(values, each, "key=value, such as run.limit=10") for each in overrides]
    untyped = [keys for keys in given if isinstance(_at(values, keys), Untyped)]
    return {str(key): value for key, value in plain_text(values).items()}, untyped


def _resolved(
    written: Mapping[str, Any], untyped: Iterable[Sequence[str]], path: Path
) -> tuple[dict[str, Any], Environment]:
    """Return *written* with ``${...}`` resolved, and text of the command line still untyped."""
    try:
        # With what an override may refer to in place.
        values, environment = resolve(written)
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{error.full_key or path}: {reason}") from error
    for keys in untyped:
        text = _at(values, keys)
        if isinstance(text, str):
            _at(values, keys[:-1])[keys[-1]] = Untyped(text)
    return values, environment


def _at(values: Any, keys: Iterable[str]) -> Any:
    """Return what is at a path; None where a later override has replaced it."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _yaml_problem(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    if mark is None:
        return f"{path}: {problem}"
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _check_sections(values: Mapping[Any, Any], path: Path) -> None:
    for name in values:
        if name not in SECTIONS:
            raise ConfigError(f"{path}: unknown section {name!r}. {_section_hint(str(name))}")
    for name, example in REQUIRED.items():
        if not values.get(name):
            state = "is empty" if name in values else "is missing"
            raise ConfigError(f"{path}: section {name!r} {state}; name at least one: {example}")
    if not isinstance(values.get("run"), dict) or "out" not in values["run"]:
        raise ConfigError(
            f"{path}: run.out is missing; name the run folder: run: {{out: runs/first}}"
        )


def _section_hint(name: str) -> str:
    """Say what an unknown section may be: a key that belongs into one, or one misspelt."""
    for section, options in SETTINGS.items():
        if name in (field.name for field in fields(options)):
            return f"Did you mean {section}.{name}?"
    return suggestion(name, SECTIONS)


def check_config(
    values: Mapping[str, Any],
    registry: Registry,
    written: Mapping[str, Any] | None = None,
    environment: Environment | None = None,
) -> Config:
    """Return *values*, as :func:`read_values` gives them, checked against *registry*.

    Args:
        values: with ``${...}`` resolved.
        registry: of the plugins that may be named.
        written: *values* as written; by default the same.
        environment: what *values* owe to the environment; by default nothing.

    Raises:
        ConfigError: see the module.
    """
    run, folders = _run_options(values)
    codecs = [_codec(registry, *entry) for entry in _entries(values, "codecs")]
    if run.uncompressed and all(each.spec.name != "uncompressed" for each in codecs):
        codecs.insert(0, _codec(registry, "codecs.uncompressed", "uncompressed", {}))
    vlms = [_choice(registry, "vlm", *entry) for entry in _entries(values, "vlms")]
    tasks = [_choice(registry, "task", *entry) for entry in _entries(values, "tasks")]
    adaptors = _adaptors(registry, _entries(values, "adaptors"), codecs)
    if not run.baseline and not adaptors:
        raise ConfigError("run.baseline: false needs adaptors, or no model is left.")
    environment = environment or Environment()
    config = Config(
        codecs=tuple(_with_environment(each, environment) for each in codecs),
        vlms=tuple(_with_environment(each, environment) for each in vlms),
        tasks=tuple(_with_environment(each, environment) for each in tasks),
        adaptors=tuple(_with_environment(each, environment) for each in adaptors),
        executor=_executor(registry, run.executor),
        run=run,
        values=values if written is None else written,
        registry=registry,
        environment=environment,
        folders=folders,
    )
    for choices in (config.codecs, config.vlms, config.tasks, config.adaptors):
        _check_labels(choices)
    return config


def codec_choices(registry: Registry, values: Mapping[str, Any]) -> tuple[CodecChoice, ...]:
    """Return the codecs in the section ``codecs`` of *values*.

    Raises:
        ConfigError: see the module.
    """
    choices = tuple(_codec(registry, *entry) for entry in _entries(values, "codecs"))
    _check_labels(choices)
    return choices


def only_choice(registry: Registry, kind: str, values: Mapping[str, Any]) -> Choice[Any]:
    """Return the plugin in a section of *values* that holds one and is called as its kind is.

    Raises:
        ConfigError: it holds none or several; see the module.
    """
    entries = _entries(values, kind)
    if len(entries) != 1:
        raise ConfigError(f"{kind}: expected one {kind} with its options, got {len(entries)}.")
    return _choice(registry, kind, *entries[0])


def _with_environment(choice: C, environment: Environment) -> C:
    return replace(choice, environment=environment.within(*choice.where.split(".", 1)))


def _run_options(values: Mapping[str, Any]) -> tuple[RunOptions, dict[str, str]]:
    """Return the section, and its folders as they were written by their paths."""
    run: RunOptions = _section_options(RunOptions, "run", values)
    written: RunOptions = _section_options(RunOptions, "run", values, options_as_written)
    for name, least in (("workers", 1), ("limit", 1), ("decode_ahead", 1)):
        value = getattr(run, name)
        if value is not None and value < least:
            raise ConfigError(f"run.{name}: expected at least {least}, got {value}.")
    for name in ("timeout", "memory", "decode_ahead_megapixels"):
        value = getattr(run, name)
        if value is not None and not value > 0:
            raise ConfigError(f"run.{name}: expected more than 0, got {value}.")
    if run.memory is not None and not _LEAST_MEMORY <= run.memory < math.inf:
        raise ConfigError(f"run.memory: expected gigabytes, {_LEAST_MEMORY} or more.")
    run.fidelity = list(_fidelities(run.fidelity))
    if run.shard is not None:
        shard = Shard.of(run.shard)
        if shard is None:
            raise ConfigError(f"run.shard: expected a share such as 3/16, got {run.shard!r}.")
        if not all(options.out.name for options in (run, written)):
            raise ConfigError(
                f"run.out: a share of a run needs a folder with a name, got {written.out}."
            )
        for options in (run, written):
            options.out = options.out.with_name(options.out.name + shard.suffix)
    folders = {}
    for name in ("out", "cache"):
        if getattr(written, name):
            _check_folder(f"run.{name}", getattr(written, name))
            folders[str(getattr(run, name))] = str(getattr(written, name))
    return run, folders


def _fidelities(names: Sequence[str]) -> Iterator[str]:
    """Yield the canonical names of metrics."""
    seen = set()
    for number, given in enumerate(names):
        name = next((each for each in FIDELITIES if canonical(each) == canonical(given)), None)
        if name is None:
            hint = suggestion(given, FIDELITIES)
            raise ConfigError(f"run.fidelity[{number}]: unknown metric {given!r}. {hint}")
        if name in seen:
            raise ConfigError(f"run.fidelity[{number}]: {name} is named twice.")
        seen.add(name)
        yield name


def _check_folder(where: str, folder: Path) -> None:
    """Make sure that *folder* can be made, or written to if it is there."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"{where}: {there} is not a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{where}: cannot write to {there}.")


def _section_options(
    options: type,
    name: str,
    values: Mapping[str, Any],
    resolved: Callable[[PluginSpec, Mapping[str, Any], str], Any] = resolve_options,
) -> Any:
    # A section is checked as the options of a plugin are.
    spec = PluginSpec(name=name, summary="", factory="", options=options)
    return resolved(spec, {} if values.get(name) is None else values[name], name)


def _entries(values: Mapping[str, Any], section: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return place, key and content of the entries of a section."""
    content = values.get(section) or {}
    if not isinstance(content, dict):
        raise ConfigError(f"{section}: expected a mapping, one key for each, got {content!r}.")
    entries = []
    for key, given in content.items():
        where = f"{section}.{key}"
        if not isinstance(key, str) or not key.strip():
            raise ConfigError(f"{where}: expected a name as key, got {key!r}.")
        if given not in (None, "") and not isinstance(given, dict):
            raise ConfigError(f"{where}: expected a mapping of options, got {given!r}.")
        entries.append((where, key, dict(given or {})))
    return entries


def _choice(
    registry: Registry, kind: str, where: str, key: str, given: dict[str, Any]
) -> Choice[Any]:
    """Return the plugin that an entry names, with its options."""
    named = given.pop("plugin", None)
    if named is not None and not isinstance(named, str):
        raise ConfigError(f"{where}.plugin: expected the name of a {kind}, got {named!r}.")
    try:
        found = registry.find(kind, key if named is None else named)
    except PluginError as error:
        place = where if named is None else f"{where}.plugin"
        raise ConfigError(f"{place}: {error}") from error
    label = found.spec.name if named is None else key
    found, options = registry.configured(found, given, where)
    return Choice(
        label, where, found, options, written=options_as_written(found.spec, given, where)
    )


def _adaptors(
    registry: Registry,
    entries: Iterable[tuple[str, str, dict[str, Any]]],
    codecs: Sequence[CodecChoice],
) -> tuple[AdaptorChoice, ...]:
    found = []
    for where, key, given in entries:
        if key != NO_ADAPTOR:
            points = check_points(given.pop("points", None), codecs, f"{where}.points")
            choice = _choice(registry, "adaptor", where, key, given)
            found.append(
                AdaptorChoice(
                    choice.label,
                    where,
                    choice.found,
                    choice.options,
                    written=choice.written,
                    points=points,
                )
            )
        elif given:
            # It may be named, and is there in any case.
            raise ConfigError(f"{where}: stands for the VLM as it is and takes no options.")
    return tuple(found)


def check_points(
    given: Any, codecs: Iterable[CodecChoice], where: str
) -> dict[str, tuple[str, ...]] | None:
    """Return levels by codec label, as named in a configuration; None where that is null.

    Args:
        given: of the configuration.
        codecs: that may be named, with their levels.
        where: place of *given*, for messages.

    Raises:
        ConfigError: a codec or level is none of *codecs*.
    """
    if given is None:
        return None
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{where}: expected levels by codec, {{jpeg: [q1]}}, got {given!r}.")
    known = {}
    for each in codecs:
        # As reports call it, and as the configuration does.
        for name in (each.label, each.where.removeprefix("codecs.")):
            known[canonical(name)] = each
    points: dict[str, tuple[str, ...]] = {}
    for name, names in given.items():
        codec = known.get(canonical(str(name)))
        if codec is None:
            hint = suggestion(str(name), {each.label for each in known.values()})
            raise ConfigError(f"{where}.{name}: not among the codecs. {hint}")
        levels = _levels(codec.spec, names, f"{where}.{name}")
        for level in levels:
            if level not in codec.levels:
                has = ", ".join(each.name for each in codec.levels)
                raise ConfigError(f"{where}.{name}: {level.name} is not among its levels, {has}.")
        points[codec.label] = tuple(level.name for level in levels)
    return points


def _executor(registry: Registry, given: Any) -> Choice[ExecutorSpec]:
    where = "run.executor"
    values = {"plugin": given} if isinstance(given, str) else given
    if not isinstance(values, dict) or not isinstance(values.get("plugin"), str):
        raise ConfigError(
            f"{where}: expected the name of an executor, such as local, or a mapping of its"
            f" options with its name as plugin, got {given!r}."
        )
    options = {key: value for key, value in values.items() if key != "plugin"}
    return _choice(registry, "executor", where, values["plugin"], options)


def _codec(registry: Registry, where: str, key: str, given: dict[str, Any]) -> CodecChoice:
    names, square = given.pop("levels", None), given.pop("square", None)
    choice = _choice(registry, "codec", where, key, given)
    levels = _levels(choice.spec, names, f"{where}.levels")
    if square is not None and choice.spec.nominal_bpp is not None:
        raise ConfigError(f"{where}.square: {choice.spec.name} passes pictures on as they are.")
    return CodecChoice(
        choice.label,
        where,
        choice.found,
        choice.options,
        levels,
        written=choice.written,
        square=None if square is None else read_square(square, f"{where}.square"),
    )


def read_square(given: Any, where: str) -> Square:
    """Return what the key ``square`` of a codec says.

    Raises:
        ConfigError: it is malformed; *where* is its place.
    """
    if not isinstance(given, dict) or "side" not in given:
        raise ConfigError(f"{where}: expected {{side: 384, fit: pad}}, got {given!r}.")
    # A mapping of options, checked as a plugin's are.
    spec = PluginSpec(name="square", summary="", factory="", options=SquareOptions)
    options: SquareOptions = resolve_options(spec, given, where)
    try:
        return Square(options.side, options.fit, tuple(options.border))  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"{where}: {error}.") from error


def _levels(spec: CodecSpec, names: Any, where: str) -> tuple[Level, ...]:
    if names is None:
        return spec.levels
    chosen = spec.level_set(names) if isinstance(names, str) else None
    names = names if chosen is None else list(chosen)
    if not isinstance(names, list) or not names:
        example = ", ".join(level.name for level in spec.levels[:2])
        sets = f", or one of {', '.join(spec.level_sets)}" if spec.level_sets else ""
        raise ConfigError(
            f"{where}: expected a list of levels, such as [{example}]{sets}, got {names!r}."
        )
    levels: dict[str, Level] = {}
    for number, name in enumerate(names):
        place = f"{where}[{number}]"
        if not isinstance(name, str):
            example = spec.levels[0].name
            raise ConfigError(
                f"{place}: expected the name of a level, such as {example}, got {name!r}."
            )
        try:
            level = spec.level(name)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from error
        if level.name in levels:
            raise ConfigError(f"{place}: level {level.name!r} is named twice.")
        levels[level.name] = level
    return tuple(levels.values())


def _check_labels(choices: Sequence[Choice[Any]]) -> None:
    """Refuse two entries that a report could not tell apart."""
    seen: dict[str, str] = {}
    for choice in choices:
        other = seen.setdefault(canonical(choice.label), choice.where)
        if other != choice.where:
            raise ConfigError(
                f"{choice.where}: the same name as {other}; give it a key of its own and"
                f" name the plugin: my-{choice.spec.name}: {{plugin: {choice.spec.name}}}"
            )
