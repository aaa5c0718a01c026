"""``lossylens gap``: trains an adaptor in several ways and runs all of them beside the VLM.

The gap between original and compressed images has a part that a model adapted to compression
wins back.  How much that is depends on how well it is adapted, so the adaptor is tuned for
each codec and level alone, and for all together; what it wins back at best is a bound.  A
control is tuned on uncompressed images alone.  Each training has a folder as ``lossylens
train adaptor`` makes it, and the answers come from an ordinary run; both resume, and
:mod:`lossylens_report.gap_split` computes the split from that run.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import release_memory
from lossylens.adaptor import Trainer, Training
from lossylens.errors import ConfigError, LossylensError
from lossylens.grid.config import Config, check_config, check_points, read_yaml
from lossylens.grid.plan import make_plan
from lossylens.names import canonical
from lossylens.options.environment import Environment, Place
from lossylens.options.resolving import resolve_options
from lossylens.registry.plugins import Registry, load_registry
from lossylens.run.driver import run
from lossylens.spec import PluginSpec

from lossylens_toolkit.drawn_maps import FOLDER, INDEX
from lossylens_toolkit.feature_maps import map_features
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens_toolkit.training.adaptor_options import AdaptorTrainingOptions
from lossylens_toolkit.training.adaptor_training import CHECKPOINT, identity_of, prepare_training
from lossylens_toolkit.training.gap_options import GapSections
from lossylens_toolkit.training.gap_plan import CONTROL, JOINT, POINT, GapPlan, Trainings

#: What can be part of the name of a folder and of an adaptor's label.
_NAME = re.compile(r"[\w-][\w.-]*")

#: Settings that change no weights, or that a training may be resumed with.
_FREE = ("steps", "device", "workers", "kept_megabytes", "validate_every", "state_minutes")


@dataclass(frozen=True)
class _Member:
    """One training.

    Attributes:
        label: of its adaptor in the run.
        folder: of it, in that of all.
        values: its configuration.
    """

    label: str
    folder: str
    values: Mapping[str, Any]


#: A codec and a level, labels both.
_Point = tuple[str, str]


@dataclass(frozen=True)
class _Way:
    """Trainings that differ in their seed alone.

    Attributes:
        kind: see :class:`~lossylens_toolkit.training.gap_plan.Trainings`.
        points: that it is trained on.
        members: one for each seed.
    """

    kind: str
    points: tuple[_Point, ...]
    members: tuple[_Member, ...]


def find_gap(
    config: Path,
    overrides: Iterable[str] = (),
    say: Callable[[str], None] = print,
    *,
    dry: bool = False,
) -> tuple[Path, int]:
    """Do all trainings and the run, or what is left of them.

    Args:
        config: see :class:`GapSections`.
        overrides: ``key=value``.
        say: is told what is done.
        dry: say what there is to do, and do nothing.

    Returns:
        The run folder, and how many samples have failed.

    Raises:
        LossylensError: something is wrong or missing; what the trainings and the run raise.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "lossylens gap is one process; give several to its trainings, `accelerate launch -m"
            " lossylens train adaptor`, each in its folder in out, and then start it"
        )
    values, environment = read_yaml(config, overrides)
    with environment.out_of_messages():
        gap = _Gap(values, environment, say)
        # Whatever is wrong with the run shows before the trainings, which take longer.
        make_plan(gap.config(()))
        gap.train(dry=dry)
        return Path(gap.sections.out).expanduser() / "run", 0 if dry else gap.run()


class _Gap:
    """One configuration, checked."""

    def __init__(
        self, values: Mapping[str, Any], environment: Environment, say: Callable[[str], None]
    ) -> None:
        spec = PluginSpec(name="gap", summary="", factory="", options=GapSections)
        self.sections: GapSections = resolve_options(spec, values, "")
        self._environment, self._say = environment, say
        self.out = Path(self.sections.out).expanduser().absolute()
        self._registry: Registry = load_registry(
            only=self.sections.plugins.get("only"), disable=self.sections.plugins.get("disable")
        )
        both = self.sections.codecs.keys() & self.sections.unseen.keys()
        if both:
            raise ConfigError(f"unseen.{min(both)}: is trained on, among codecs.")
        self._points = self._trained_points()
        self._alone = tuple(self._points_alone())
        self.ways = self._ways()

    @property
    def cache(self) -> str:
        """The folder of bitstreams, as written."""
        return self.sections.cache or f"{self.sections.out}/bitstreams"

    def _trained_points(self) -> dict[str, tuple[str, ...]]:
        """Return all codecs that are trained on, with their levels, by label."""
        config = self.config(())
        unseen = {canonical(name) for name in self.sections.unseen}
        return {
            each.label: tuple(level.name for level in each.levels)
            for each in config.codecs
            if each.spec.nominal_bpp is None
            and canonical(each.where.removeprefix("codecs.")) not in unseen
        }

    def _points_alone(self) -> tuple[_Point, ...]:
        """Return the points for which the adaptor is tuned alone."""
        given = self.sections.points
        if given == {}:
            return ()
        trained = [each for each in self.config(()).codecs if each.label in self._points]
        return _flat(check_points(given, trained, "points") or self._points)

    def _ways(self) -> dict[str, _Way]:
        """Return each way of tuning by its name, which is that of a folder too."""
        sections, every = self.sections, _flat(self._points)
        drafts: list[tuple[str, str, Mapping[str, Any], tuple[_Point, ...]]] = []
        for name, own in (sections.arms or {"joint": {}}).items():
            if own is not None and not isinstance(own, Mapping):
                raise ConfigError(f"arms.{name}: expected options of a training, got {own!r}.")
            drafts.append((JOINT, str(name), own or {}, every))
        for codec, level in self._alone:
            drafts.append((POINT, f"{codec}-{level}", sections.alone, ((codec, level),)))
        if sections.control:
            drafts.append((CONTROL, "control", sections.alone, ()))
        ways: dict[str, _Way] = {}
        for kind, name, own, points in drafts:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"{name!r}: is to be a folder; use letters, digits, - _ and .")
            if canonical(name) in map(canonical, ways):
                raise ConfigError(f"arms.{name}: the trainings have that name twice; rename it.")
            members = tuple(self._member(name, seed, own, points) for seed in sections.seeds)
            ways[name] = _Way(kind, points, members)
        return ways

    def _member(
        self, name: str, seed: int, own: Mapping[str, Any], points: Iterable[_Point]
    ) -> _Member:
        sections, folder = self.sections, f"adaptors/{name}/seed{seed}"
        levels = _by_codec(points)
        entries = {self._label(key): (key, given) for key, given in sections.codecs.items()}
        codecs = {
            key: {**(given or {}), "levels": levels[label]}
            for label, (key, given) in entries.items()
            if label in levels
        }
        values = {
            "out": f"{sections.out}/{folder}",
            "vlm": sections.vlm,
            "codecs": codecs,
            "pictures": sections.pictures,
            "validation": sections.validation,
            "training": {**sections.training, **own},
            "cache": self.cache,
            "seed": seed,
            "plugins": sections.plugins,
        }
        return _Member(f"{name}-seed{seed}", folder, values)

    def _label(self, key: str) -> str:
        """Return what reports call an entry of the section ``codecs``."""
        given = self.sections.codecs[key] or {}
        return key if given.get("plugin") else self._registry.find("codec", key).spec.name

    def train(self, *, dry: bool) -> None:
        """Do the trainings that are not done, seed by seed."""
        by_seed = zip(*(way.members for way in self.ways.values()), strict=True)
        members = [each for of_seed in by_seed for each in of_seed]
        for number, member in enumerate(members, 1):
            trainer, training = prepare_training(
                self.sections.adaptor, member.values, self._environment
            )
            place = f"Training {number} of {len(members)}, {member.folder}"
            done = self._steps_done(member, trainer, training)
            steps = getattr(trainer.options, "steps", None)
            if done is not None and (steps is None or done >= steps):
                self._say(f"{place}: done.")
            elif dry:
                self._say(f"{place}: {'to be gone on with' if done else 'to be done'}.")
            else:
                self._say(f"{place}.")
                trainer.train(training)
            del trainer, training
            release_memory()  # of a device, for the next training and the workers of the run

    def _steps_done(self, member: _Member, trainer: Trainer, training: Training) -> int | None:
        """Return the steps of a finished training; None where there is none.

        Raises:
            ConfigError: it is another training.
        """
        folder = self.out / member.folder
        if not (folder / CHECKPOINT).exists():
            return None
        about = read_checkpoint(folder / CHECKPOINT).about
        try:
            record = dict(json.loads((folder / "training.json").read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{folder}: has a checkpoint and no record of its training"
            ) from error
        options: dict[str, Any] = dataclasses.asdict(trainer.options)
        free = {each.name for each in dataclasses.fields(AdaptorTrainingOptions)}
        for name, wanted in {**options, **identity_of(training)}.items():
            there = record.get(name, wanted)
            # A method may record an option in a form of its own.
            if there == wanted or name in _FREE or type(there) is not type(wanted):
                continue
            if name not in free:
                raise ConfigError(
                    f"{folder} holds a training with {name} {there!r}, not {wanted!r}; move it"
                    " away, or name another folder in out"
                )
            self._say(f"{member.folder}: was trained with {name} {there!r}, not {wanted!r}.")
        done, wanted = int(about.get("steps", 0)), getattr(trainer.options, "steps", None)
        if wanted is not None and done > wanted:
            self._say(f"{member.folder}: was trained for {done} steps, not {wanted}.")
        return done

    def config(self, ways: Iterable[_Way]) -> Config:
        """Return the configuration of the run with the adaptors of *ways*."""
        sections = self.sections
        values: dict[str, Any] = {
            "codecs": {**sections.codecs, **sections.unseen},
            "vlms": sections.vlm,
            "tasks": sections.tasks,
            "adaptors": {
                each.label: self._entry(way, each) for way in ways for each in way.members
            },
            "run": {**sections.run, "out": f"{sections.out}/run", "cache": self.cache},
            "plugins": sections.plugins,
        }
        for name in ("codecs", "tasks", "vlms"):
            if not values[name]:
                raise ConfigError(f"{'vlm' if name == 'vlms' else name}: name at least one.")
        moved = Environment(
            _moved(self._environment.texts),
            _moved(self._environment.digests),
            self._environment.secrets,
        )
        hidden = _hidden(values, self._environment)
        return check_config(values, self._registry, hidden, moved)

    def _entry(self, way: _Way, member: _Member) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "plugin": self.sections.adaptor,
            "checkpoint": f"{self.sections.out}/{member.folder}/{CHECKPOINT}",
        }
        if way.kind == JOINT:
            return entry
        points = self._alone if way.kind == CONTROL else way.points
        return {**entry, "points": _by_codec(points or _flat(self._points))}

    def run(self) -> int:
        """Do the run, and leave in its folder what tells its adaptors apart; count failures."""
        ways = self.ways
        config = self.config(ways.values())
        plan = GapPlan(
            config.vlms[0].label,
            self.sections.share,
            {
                name: Trainings(way.kind, tuple(each.label for each in way.members), way.points)
                for name, way in ways.items()
            },
        )
        config.run.out.mkdir(parents=True, exist_ok=True)
        plan.write(config.run.out)
        failed = run(config, self._say)
        index = config.run.out / FOLDER / INDEX
        checkpoints = [
            self.out / each.folder / CHECKPOINT for way in ways.values() for each in way.members
        ]
        newest = max(path.stat().st_mtime for path in checkpoints)
        if not index.exists() or index.stat().st_mtime < newest:
            first = [way.members[0].label for way in ways.values()]
            try:
                map_features(config, plan.vlm, adaptors=first)
            except LossylensError as error:
                self._say(f"No maps of feature error: {error}")
        return failed


def _flat(levels: Mapping[str, Iterable[str]]) -> tuple[_Point, ...]:
    return tuple((codec, level) for codec, names in levels.items() for level in names)


def _by_codec(points: Iterable[_Point]) -> dict[str, list[str]]:
    levels: dict[str, list[str]] = {}
    for codec, level in points:
        levels.setdefault(codec, []).append(level)
    return levels


#: Sections of this configuration that a run has under another name.
_MOVED = {"unseen": "codecs", "vlm": "vlms"}


def _moved(places: Mapping[Place, str]) -> dict[Place, str]:
    return {
        (_MOVED.get(str(place[0]), place[0]), *place[1:]): each for place, each in places.items()
    }


def _hidden(value: Any, environment: Environment) -> Any:
    """Return *value* without what was read from the environment."""
    if isinstance(value, Mapping):
        return {key: _hidden(member, environment) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(member, environment) for member in value]
    return environment.hidden(value) if isinstance(value, str) else value
