"""``lossylens gap``: trains an adaptor in several ways and runs all of them beside the VLM.

The gap between original and compressed images has a part that a model adapted to compression
wins back.  How much that is depends on how well it is adapted, so the adaptor is tuned for
each codec and level alone, and for all together; what it wins back at best is a bound.  A
control is tuned on uncompressed images alone.  Each training has a folder as ``lossylens
train adaptor`` makes it, and the answers come from an ordinary run; both resume, and
:mod:`lossylens.report.split` computes the split from that run.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate.utils import release_memory

from lossylens.adaptor import Trainer, Training
from lossylens.config import Config, check_config, check_points, read_yaml
from lossylens.environment import Environment, Place
from lossylens.errors import ConfigError, LossylensError
from lossylens.names import canonical
from lossylens.options import resolve_options
from lossylens.plan import make_plan
from lossylens.plugins import Registry, load_registry
from lossylens.report.maps import FOLDER, INDEX
from lossylens.report.split import CONTROL, JOINT, POINT, GapPlan, Trainings
from lossylens.run import run
from lossylens.spec import MANDATORY, PluginSpec
from lossylens.toolkit.feature_maps import map_features
from lossylens.toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens.toolkit.training.adaptor import CHECKPOINT, identity_of, prepare_training
from lossylens.toolkit.training.adaptor_options import AdaptorTrainingOptions

#: What can be part of the name of a folder and of an adaptor's label.
_NAME = re.compile(r"[\w-][\w.-]*")

#: Settings that change no weights, or that a training may be resumed with.
_FREE = ("steps", "device", "workers", "kept_megabytes", "validate_every", "state_minutes")


@dataclass
class GapSections:
    """The configuration of ``lossylens gap``.

    Attributes:
        out: folder of the trainings, of the run and of the results.
        adaptor: that is trained; a run must take its option ``checkpoint``.
        vlm: the model, with its options: ``{nano: }``.
        codecs: trained on and measured, as in a run: ``{jpeg: {levels: [q1, q3]}}``.
        unseen: codecs that are measured alone.
        pictures: to train on.
        validation: pictures that the trainings validate on.
        tasks: what is asked, as in a run.
        training: options of all trainings; see ``lossylens train adaptor``.
        arms: joint trainings, on all codecs and levels, by name, with their own options:
            ``{film: {condition: film}, none: {condition: none}}``; without any there is
            one, ``joint``.
        points: codecs and levels for each of which the adaptor is tuned alone:
            ``{jpeg: [q1]}``; null for all, an empty mapping for none.
        alone: options of these trainings, and of the control.
        control: whether one is tuned on uncompressed images alone.
        seeds: of the trainings; each is done with all.
        share: of the task's images by which trainings are chosen; the others are reported.
        run: options of the run, but for its folders; see ``lossylens config --section run``.
        cache: a folder of bitstreams that trainings and runs share; null for one in ``out``.
        plugins: which installed plugins are loaded, as in a run.

    Raises:
        ValueError: a value out of range.
    """

    out: str = MANDATORY
    adaptor: str = MANDATORY
    vlm: dict[str, Any] = field(default_factory=dict)
    codecs: dict[str, Any] = field(default_factory=dict)
    unseen: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, Any] = field(default_factory=dict)
    points: Any = None
    alone: dict[str, Any] = field(default_factory=dict)
    control: bool = True
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    share: float = 0.3
    run: dict[str, Any] = field(default_factory=dict)
    cache: str | None = None
    plugins: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 < self.share < 1:
            raise ValueError(f"share is between 0 and 1, got {self.share}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds: expected different ones, 0 or more, got {self.seeds}")
        for name in ("out", "cache"):
            if name in self.run:
                raise ValueError(f"run.{name}: set {name} itself, for trainings and run")
        for name in ("baseline", "uncompressed"):
            if name in self.run:
                raise ValueError(f"run.{name}: the split needs both; leave it out")


@dataclass(frozen=True)
class _Member:
    """One training.

    Attributes:
        way: name of its kind, which has a member for each seed.
        label: of its adaptor in the run.
        folder: below that of the trainings.
        values: its configuration.
    """

    way: str
    label: str
    folder: str
    values: Mapping[str, Any]


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
        self.ways = dict(self._ways())

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

    def _alone(self) -> Iterator[tuple[str, str]]:
        """Yield the points for which the adaptor is tuned alone."""
        chosen: Mapping[str, Sequence[str]] | None = self._points
        if self.sections.points is not None:
            trained = [each for each in self.config(()).codecs if each.label in self._points]
            given = self.sections.points
            chosen = check_points(given, trained, "points") if given != {} else {}
        for codec, levels in (chosen or {}).items():
            for level in levels:
                yield codec, level

    def _ways(self) -> Iterator[tuple[str, list[_Member]]]:
        """Yield each way of tuning with its trainings, the tightest bounds last."""
        sections = self.sections
        every = tuple((c, level) for c, levels in self._points.items() for level in levels)
        self._kinds: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}
        drafts: list[tuple[str, str, Mapping[str, Any], tuple[tuple[str, str], ...]]] = []
        for name, own in (sections.arms or {"joint": {}}).items():
            if own is not None and not isinstance(own, Mapping):
                raise ConfigError(f"arms.{name}: expected options of a training, got {own!r}.")
            drafts.append((JOINT, str(name), own or {}, every))
        for codec, level in self._alone():
            drafts.append((POINT, f"{codec}-{level}", sections.alone, ((codec, level),)))
        if sections.control:
            drafts.append((CONTROL, "control", sections.alone, ()))
        for kind, name, own, points in drafts:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"{name!r}: is to be a folder; use letters, digits, - _ and .")
            if canonical(name) in map(canonical, self._kinds):
                raise ConfigError(f"arms.{name}: the trainings have that name twice; rename it.")
            self._kinds[name] = (kind, points)
            yield name, [self._member(name, seed, own, points) for seed in sections.seeds]

    def _member(
        self, name: str, seed: int, own: Mapping[str, Any], points: Iterable[tuple[str, str]]
    ) -> _Member:
        sections, folder = self.sections, f"adaptors/{name}/seed{seed}"
        levels: dict[str, list[str]] = {}
        for codec, level in points:
            levels.setdefault(codec, []).append(level)
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
        return _Member(name, f"{name}-seed{seed}", folder, values)

    def _label(self, key: str) -> str:
        """Return what reports call an entry of the section ``codecs``."""
        given = self.sections.codecs[key] or {}
        return key if given.get("plugin") else self._registry.find("codec", key).spec.name

    def train(self, *, dry: bool) -> None:
        """Do the trainings that are not done, seed by seed."""
        members = [each for way in zip(*self.ways.values(), strict=True) for each in way]
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

    def config(self, members: Iterable[_Member]) -> Config:
        """Return the configuration of the run with the adaptors of *members*."""
        sections = self.sections
        values: dict[str, Any] = {
            "codecs": {**sections.codecs, **sections.unseen},
            "vlms": sections.vlm,
            "tasks": sections.tasks,
            "adaptors": {each.label: self._entry(each) for each in members},
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

    def _entry(self, member: _Member) -> dict[str, Any]:
        kind, points = self._kinds[member.way]
        entry: dict[str, Any] = {
            "plugin": self.sections.adaptor,
            "checkpoint": f"{self.sections.out}/{member.folder}/{CHECKPOINT}",
        }
        if kind == JOINT:
            return entry
        if kind == CONTROL:
            points = tuple(self._alone()) or tuple(
                (codec, level) for codec, levels in self._points.items() for level in levels
            )
        entry["points"] = {}
        for codec, level in points:
            entry["points"].setdefault(codec, []).append(level)
        return entry

    def run(self) -> int:
        """Do the run, and leave in its folder what tells its adaptors apart; count failures."""
        members = [each for way in self.ways.values() for each in way]
        config = self.config(members)
        plan = GapPlan(
            config.vlms[0].label,
            self.sections.share,
            {
                name: Trainings(kind, tuple(each.label for each in self.ways[name]), points)
                for name, (kind, points) in self._kinds.items()
            },
        )
        config.run.out.mkdir(parents=True, exist_ok=True)
        plan.write(config.run.out)
        failed = run(config, self._say)
        index = config.run.out / FOLDER / INDEX
        checkpoints = [self.out / each.folder / CHECKPOINT for each in members]
        newest = max(path.stat().st_mtime for path in checkpoints)
        if not index.exists() or index.stat().st_mtime < newest:
            first = [each[0].label for each in self.ways.values()]
            try:
                map_features(config, plan.vlm, adaptors=first)
            except LossylensError as error:
                self._say(f"No maps of feature error: {error}")
        return failed


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
