"""From the steps of a configuration to the codecs that they name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lossylens.codec import Codec, CodecSpec, Level
from lossylens.errors import ConfigError, PluginError
from lossylens.grid.config import Choice
from lossylens.grid.plan import described
from lossylens.options.resolving import options_as_written
from lossylens.registry.import_paths import import_object
from lossylens.registry.plugins import Registry
from lossylens.spec import Missing

from lossylens_codec_chain.plugin import ChainOptions
from lossylens_codec_chain.scaling import LEVEL_HELP, Scaling, scaling_level, scaling_options

#: The step that is no codec.
SCALE = "scale"


@dataclass(frozen=True)
class Step:
    """A step as workers build it.

    Attributes:
        name: of its codec, or ``scale``.
        factory: of the codec, ``""`` for a scaling.
        level: None for the step that varies, whose level is that of the chain.
        options: of the codec, or the filter of a scaling.
        made_of: plugin, version and options of the codec as text.
    """

    name: str
    factory: str
    level: Level | None
    options: Any
    made_of: str

    def built(self, level: Level) -> Codec | Scaling:
        """Return the codec or scaling; *level* is that of the chain."""
        level = self.level or level
        if self.factory:
            codec: Codec = import_object(self.factory)(level, self.options)
            return codec
        bound, most = level.parameters["bound"], level.parameters["most"]
        return Scaling(str(bound), int(most), self.options)


@dataclass
class ComposedOptions(ChainOptions):
    """Options of a chain with the codecs that they name.

    Attributes:
        parts: the steps.
        lacking: what their codecs need and this machine lacks.
    """

    parts: tuple[Step, ...] = ()
    lacking: tuple[Missing, ...] = field(default=())


def compose(
    declared: CodecSpec, options: ChainOptions, registry: Registry, where: str
) -> tuple[CodecSpec, ComposedOptions]:
    """Return the declaration of a chain with the levels of the step that varies, and its options.

    Raises:
        ConfigError: a step is wrong; the message names it.
    """
    steps = options.steps
    if not isinstance(steps, list) or not steps:
        raise ConfigError(f"{where}.steps: expected a list of steps, got {steps!r}.")
    found = [_step(registry, each, f"{where}.steps[{n}]") for n, each in enumerate(steps)]
    if not found[-1].step.factory:
        raise ConfigError(
            f"{where}.steps[{len(steps) - 1}]: the last step must be a codec, whose bitstream is"
            f" what is sent; {SCALE} can only come before one."
        )
    varying = [n for n, each in enumerate(found) if each.step.level is None]
    if len(varying) > 1:
        named = " and ".join(f"steps[{n}].{found[n].step.name}" for n in varying)
        raise ConfigError(f"{where}: {named} have no level; one step can vary, name the others'.")
    lacking = tuple(dict.fromkeys(missing for each in found for missing in each.lacking))
    composed = ComposedOptions(
        steps, options.restore, parts=tuple(each.step for each in found), lacking=lacking
    )
    if varying:
        return found[varying[0]].vary(declared), composed
    level = found[-1].step.level
    assert level is not None
    help_ = "no other; leave out the level of the step that is to vary"
    return replace(declared, levels=(level,), level_help=help_), composed


@dataclass(frozen=True)
class _Found:
    """A step with what declares a chain that varies it."""

    step: Step
    vary: Callable[[CodecSpec], CodecSpec]
    lacking: tuple[Missing, ...] = ()


def _step(registry: Registry, given: Any, where: str) -> _Found:
    """Return the step that an item of the list names."""
    if isinstance(given, str):
        given = {given: None}
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ConfigError(
            f"{where}: expected one codec with its level or options, such as {{jpeg: q85}}, or"
            f" {SCALE}, such as {{{SCALE}: {{longest: 1024}}}}; got {given!r}."
        )
    [(name, values)] = given.items()
    if not isinstance(name, str):
        raise ConfigError(f"{where}: expected the name of a codec or {SCALE}, got {name!r}.")
    place = f"{where}.{name}"
    if values is None:
        values = {}
    elif isinstance(values, str):
        values = {"level": values}
    elif not isinstance(values, Mapping):
        raise ConfigError(f"{place}: expected a level or a mapping of options, got {values!r}.")
    return _scaling(values, place) if name == SCALE else _codec(registry, name, values, place)


def _scaling(values: Mapping[str, Any], where: str) -> _Found:
    level, resample = scaling_options(values, where)
    parsed = (scaling_level(f"longest{side}") for side in (512, 768, 1024, 1568))
    levels = tuple(each for each in parsed if each)

    def vary(declared: CodecSpec) -> CodecSpec:
        return replace(
            declared, levels=levels, parse_level=scaling_level, level_help=f"{LEVEL_HELP}, N from 1"
        )

    return _Found(Step(SCALE, "", level, resample, f"{SCALE} with {resample}"), vary)


def _codec(registry: Registry, name: str, values: Mapping[str, Any], where: str) -> _Found:
    try:
        found = registry.find("codec", name)
    except PluginError as error:
        raise ConfigError(f"{where}: {error}") from error
    options_given = {key: value for key, value in values.items() if key != "level"}
    configured, options = registry.configured(found, options_given, where)
    spec = configured.spec
    level = None
    if values.get("level") is not None:
        try:
            level = spec.level(str(values["level"]))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    written = options_as_written(found.spec, options_given, where)
    choice = Choice(spec.name, where, configured, options, written=written)
    made_of = json.dumps(described(choice), sort_keys=True)
    lacking = tuple(registry.missing(configured, options))

    def vary(declared: CodecSpec) -> CodecSpec:
        return replace(
            declared,
            levels=spec.levels,
            parse_level=spec.parse_level,
            level_help=spec.level_help,
            level_sets=spec.level_sets,
        )

    return _Found(Step(spec.name, spec.factory, level, options, made_of), vary, lacking)
