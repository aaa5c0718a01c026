"""Training of adaptors: the configuration, and the loop that methods share.

A method writes a :class:`~lossylens.adaptor.Trainer` whose ``train`` runs an
:class:`AdaptorTraining`: it says which modules are trained, what the loss of some pairs is, and
what is measured of held-out pictures.  Steps, states, resumption, several processes and the
checkpoint are the same for all.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from lossylens.adaptor import Needs, Trained, Trainer, Training, TrainingPicture, TrainingPoint
from lossylens.errors import ConfigError
from lossylens.grid.config import codec_choices, only_choice, read_yaml
from lossylens.grid.plan import codec_levels
from lossylens.options.environment import Environment
from lossylens.options.resolving import resolve_options
from lossylens.registry.loading import Registered, import_object
from lossylens.registry.plugins import Registry, load_registry
from lossylens.spec import MANDATORY, PluginSpec
from lossylens.vlm import VlmIdentity
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens_toolkit.training.loop import TrainingLoop, cosine, make_accelerator
from lossylens_toolkit.training.pairs import CodedPictures, Pair, Pairs
from lossylens_toolkit.training.training_options import DEVICES, PRECISIONS, PictureOptions
from lossylens_toolkit.training.training_pictures import find_pictures


@dataclass
class AdaptorTrainingOptions:
    """Options that the trainings of all adaptors have.

    Attributes:
        steps: of the whole training; may be changed on resuming.
        batch: pictures in a step, of all processes together.
        variants: compressed variants of each picture in a step.
        clean: share of variants that are the picture as it is.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        warmup: steps of linear rise of the rate.
        decay: share of the steps, at the end, in which it falls to zero, as a cosine.
        clip: largest norm of the gradient.
        mixed_precision: ``no``, ``bf16`` or ``fp16``; weights stay in float32.
        device: ``auto`` or ``cpu``; ``accelerate launch`` chooses among GPUs.
        workers: processes that read, encode and decode pictures; 0 for the process itself.
        validate_every: steps between validations.
        state_minutes: between two states on disk.

    Raises:
        ValueError: a value out of range.
    """

    steps: int = 1000
    batch: int = 16
    variants: int = 1
    clean: float = 0.15
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: int = 100
    decay: float = 1.0
    clip: float = 1.0
    mixed_precision: str = "no"
    device: str = "auto"
    workers: int = 0
    validate_every: int = 250
    state_minutes: float = 5.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name, known in (("mixed_precision", PRECISIONS), ("device", DEVICES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        for name in ("steps", "batch", "variants", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup", "workers", "state_minutes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("decay", "clean"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, 0 to 1, got {getattr(self, name)}")


@dataclass
class AdaptorTrainingSections:
    """The configuration of ``lossylens train adaptor``.

    Attributes:
        out: folder of states, record and checkpoints.
        vlm: the model, with its options: ``{nano: }``.
        codecs: to be trained on, as in a run: ``{jpeg: {levels: [q1, q3]}}``.
        pictures: to train on.
        validation: pictures to validate on.
        training: options of the method's trainer.
        cache: a folder of bitstreams that trainings and runs share; null for one in ``out``.
        seed: of weights, pictures and order.
        plugins: which installed plugins are loaded, as in a run.
    """

    out: Path = MANDATORY  # type: ignore[assignment]
    vlm: dict[str, Any] = field(default_factory=dict)
    codecs: dict[str, Any] = field(default_factory=dict)
    pictures: PictureOptions = field(default_factory=PictureOptions)
    validation: PictureOptions = field(default_factory=PictureOptions)
    training: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None
    seed: int = 0
    plugins: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Build:
    """Builds a codec; picklable."""

    factory: str
    level: Any
    options: Any

    def __call__(self) -> Any:
        return import_object(self.factory)(self.level, self.options)


def train_adaptor(
    name: str, config: Path, overrides: Iterable[str] = (), say: Callable[[str], object] = print
) -> Trained:
    """Train an adaptor, or go on with it.

    Args:
        name: of the adaptor.
        config: see :class:`AdaptorTrainingSections`.
        overrides: ``key=value``.
        say: is told what is found.

    Raises:
        LossylensError: something is wrong or missing; see :class:`~lossylens.adaptor.Trainer`.
    """
    values, environment = read_yaml(config, overrides)
    with environment.out_of_messages():
        spec = PluginSpec(name="training", summary="", factory="", options=AdaptorTrainingSections)
        sections: AdaptorTrainingSections = resolve_options(spec, values, "")
        registry = load_registry(
            only=sections.plugins.get("only"), disable=sections.plugins.get("disable")
        )
        found = registry.find("adaptor", name)
        trainer = _trainer(found, sections.training)
        return trainer.train(_training(sections, values, registry, environment))


def _trainer(found: Registered[Any], given: Mapping[str, Any]) -> Trainer:
    spec = found.spec
    if not spec.trainer:
        raise ConfigError(f"adaptor {spec.name!r} is not trained: it works as it is.")
    own = PluginSpec(name=spec.name, summary="", factory=spec.trainer, options=spec.training)
    options = resolve_options(own, dict(given), "training")
    factory = import_object(spec.trainer)
    if not (isinstance(factory, type) and issubclass(factory, Trainer)):
        raise ConfigError(f"adaptor {spec.name!r}: {spec.trainer} is no Trainer.")
    trainer: Trainer = factory(options)
    return trainer


def _training(
    sections: AdaptorTrainingSections,
    values: Mapping[str, Any],
    registry: Registry,
    environment: Environment,
) -> Training:
    choice = only_choice(registry, "vlm", values)
    vlm = registry.build_vlm(choice.spec.name, choice.options)
    identity = VlmIdentity(choice.spec.name, choice.label, dict(vlm.provenance()))
    points = [
        TrainingPoint(
            level.point, _Build(level.choice.spec.factory, level.level, level.choice.options)
        )
        for level in codec_levels(
            registry, codec_choices(registry, values), environment, parity=False
        )
        if level.encodes
    ]
    pictures = _pictures(sections.pictures, registry, "pictures")
    validation = _pictures(sections.validation, registry, "validation")
    twice = {each.name for each in pictures} & {each.name for each in validation}
    if twice:
        raise ConfigError(f"validation: {min(twice)} is among the training pictures as well.")
    return Training(
        vlm=vlm,
        identity=identity,
        points=points,
        pictures=pictures,
        validation=validation,
        seed=sections.seed,
        folder=sections.out,
        cache=sections.cache,
    )


def _pictures(
    options: PictureOptions, registry: Registry, where: str
) -> tuple[TrainingPicture, ...]:
    found = find_pictures(options, registry, where)
    return tuple(TrainingPicture(name, read) for name, read in found.items())


class AdaptorTraining(TrainingLoop[Sequence[Pair]]):
    """One training of an adaptor.

    Args:
        method: name of the adaptor.
        training: what is trained on.
        options: see their class.
        identity: what else makes it this training and no other.
        needs: what of a compressed picture the method takes.
        say: is given a line for each validation.
    """

    def __init__(
        self,
        method: str,
        training: Training,
        options: AdaptorTrainingOptions,
        identity: Mapping[str, Any],
        *,
        needs: Needs = Needs.PIXELS,
        say: Callable[[str], object] = print,
    ) -> None:
        own = {
            "method": method,
            "vlm": training.identity.name,
            "weights": training.identity.weights,
            "points": [each.point.key for each in training.points],
            "pictures": _names_hash(training.pictures),
            "seed": training.seed,
            **identity,
        }
        super().__init__(
            folder=training.folder,
            identity=own,
            settings=vars(options),
            steps=options.steps,
            validate_every=options.validate_every,
            state_minutes=options.state_minutes,
            accelerator=make_accelerator(options.device, options.mixed_precision),
            say=say,
        )
        self.method, self.training, self.options = method, training, options
        cache = training.cache or training.folder / "bitstreams"
        self.coded = CodedPictures(training.pictures, training.points, cache, needs)
        self.held_out = CodedPictures(training.validation, training.points, cache, needs)
        set_seed(training.seed, device_specific=True)

    def prepare(self, module: nn.Module, groups: Sequence[Mapping[str, Any]]) -> None:
        """Take the module that is trained, and take up what the folder holds.

        Args:
            module: called through :attr:`module` alone, so that processes synchronise.
            groups: of parameters, each with ``params`` and a ``share`` of the learning rate;
                ``weight_decay`` where it is another.
        """
        self._shares = [float(group.get("share", 1.0)) for group in groups]
        given = [
            {
                "params": list(group["params"]),
                "weight_decay": group.get("weight_decay", self.options.weight_decay),
            }
            for group in groups
        ]
        optimizer = torch.optim.AdamW(given, lr=self.options.learning_rate)
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.begin()

    @abstractmethod
    def loss(self, pairs: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Return the terms of a step, ``loss`` among them."""

    @abstractmethod
    def state(self) -> Mapping[str, Tensor]:
        """Return what the checkpoint holds."""

    def about(self) -> Mapping[str, Any]:
        """Return what else the checkpoint's header says."""
        return {}

    def batches(self) -> Iterator[Sequence[Pair]]:
        """Yield the pairs of the steps that are left."""
        options = self.options
        count = options.steps * options.batch
        loader: DataLoader[Any] = DataLoader(
            Pairs(
                self.coded,
                count,
                self.training.seed,
                variants=options.variants,
                clean=options.clean,
            ),
            batch_size=options.batch // self.accelerator.num_processes or 1,
            sampler=self._numbers(count),
            num_workers=options.workers,
            collate_fn=_as_list,
            multiprocessing_context="spawn" if options.workers else None,
            generator=torch.Generator(),
        )
        yield from loader

    def _numbers(self, count: int) -> list[int]:
        """Return the numbers of this process's pairs: in each batch its share, in order."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        share = self.options.batch // processes or 1
        first = self.step * self.options.batch
        return [n for n in range(first, count) if (n % self.options.batch) // share == rank]

    def update(self, batch: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Do one step on *batch*."""
        options = self.options
        share = cosine(
            self.step, steps=options.steps, warmup=options.warmup, decay=options.decay, last=0.0
        )
        for group, own in zip(self.optimizer.param_groups, self._shares, strict=True):
            group["lr"] = options.learning_rate * own * share
        self.optimizer.zero_grad()
        with self.accelerator.autocast():
            terms = self.loss(batch)
        self.accelerator.backward(terms["loss"])
        trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        self.accelerator.clip_grad_norm_(trained, options.clip)
        self.optimizer.step()
        return terms

    def export(self, name: str = "adaptor.safetensors") -> Trained:
        """Write the checkpoint.

        Its header names method, VLM by name and hash, codec points, data and seed.
        """
        path = self.folder / name
        if self.accelerator.is_main_process:
            temporary = path.with_suffix(".tmp")
            write_checkpoint(temporary, self.state(), self._header())
            temporary.replace(path)
        self.accelerator.wait_for_everyone()
        return Trained(path)

    def _header(self) -> dict[str, Any]:
        training = self.training
        return {
            "method": self.method,
            "vlm": training.identity.name,
            "vlm_weights": training.identity.weights,
            "points": [
                {
                    "codec": each.point.codec,
                    "level": each.point.level,
                    "key": each.point.key,
                    "space": each.point.space,
                    "parameters": dict(each.point.parameters),
                    "provenance": dict(each.point.provenance),
                }
                for each in training.points
            ],
            "pictures": len(training.pictures),
            "pictures_hash": _names_hash(training.pictures),
            "seed": training.seed,
            "steps": self.step,
            **self.about(),
        }


def _as_list(pairs: list[Pair]) -> list[Pair]:
    return pairs


def _names_hash(pictures: Sequence[TrainingPicture]) -> str:
    """Return a hash of the names of pictures, which stand for the data."""
    names = "\n".join(each.name for each in pictures)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def check_header(about: Mapping[str, Any], method: str, vlm: VlmIdentity, path: Path) -> str:
    """Return why a checkpoint does not serve *vlm*, or ``""``.

    Args:
        about: header of the checkpoint.
        method: name of the adaptor that it must be of.
        vlm: that is to be adapted.
        path: of the checkpoint, for the reason.
    """
    if about.get("method") != method:
        return f"{path} is a checkpoint of {about.get('method') or 'something else'}, not {method}"
    if about.get("vlm_weights") and about["vlm_weights"] != vlm.weights:
        other = "other weights" if about.get("vlm") == vlm.name else "another model"
        return f"{path} was trained for {about.get('vlm')}: {other} than {vlm.label}'s"
    return ""
