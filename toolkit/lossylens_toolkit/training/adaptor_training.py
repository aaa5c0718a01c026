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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from lossylens.adaptor import Needs, Trained, Trainer, Training, TrainingPicture, TrainingPoint
from lossylens.codec import CodecPoint
from lossylens.errors import ConfigError
from lossylens.grid.config import codec_choices, only_choice, read_yaml
from lossylens.grid.plan import codec_levels
from lossylens.options.environment import Environment
from lossylens.options.resolving import resolve_options
from lossylens.registry.import_paths import import_object
from lossylens.registry.plugin_info import Registered
from lossylens.registry.plugins import Registry, load_registry
from lossylens.spec import PluginSpec
from lossylens.vlm import VlmIdentity
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens_toolkit.training.adaptor_options import (
    AdaptorTrainingOptions,
    AdaptorTrainingSections,
)
from lossylens_toolkit.training.loop import TrainingLoop, cosine, make_accelerator
from lossylens_toolkit.training.pairs import CodedPictures, Pair, Pairs
from lossylens_toolkit.training.training_memory import check_memory, saved_bytes
from lossylens_toolkit.training.training_pictures import labelled_pictures

#: Name of the checkpoint in the folder of a training that has come to its end.
CHECKPOINT = "adaptor.safetensors"


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
        trainer, training = prepare_training(name, values, environment)
        return trainer.train(training)


def prepare_training(
    name: str, values: Mapping[str, Any], environment: Environment
) -> tuple[Trainer, Training]:
    """Return a trainer with what it is to be given; no weights are loaded.

    Args:
        name: of the adaptor.
        values: of a configuration; see :class:`AdaptorTrainingSections`.
        environment: what they owe to it.

    Raises:
        LossylensError: something is wrong or missing.
    """
    spec = PluginSpec(name="training", summary="", factory="", options=AdaptorTrainingSections)
    sections: AdaptorTrainingSections = resolve_options(spec, values, "")
    registry = load_registry(
        only=sections.plugins.get("only"), disable=sections.plugins.get("disable")
    )
    found = registry.find("adaptor", name)
    trainer = _trainer(found, sections.training)
    return trainer, _training(sections, values, registry, environment)


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
    pictures = labelled_pictures(sections.pictures, registry, "pictures")
    validation = labelled_pictures(sections.validation, registry, "validation")
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

    #: What a user can do where a step does not fit into memory.
    memory_remedy = "lower training.batch or training.variants"

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
        own = {"method": method, **identity_of(training), **identity}
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
        self.coded = CodedPictures(
            training.pictures, training.points, cache, needs, kept=options.kept_megabytes << 20
        )
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
        self._check_memory([each for group in given for each in group["params"]])
        self.begin()

    def _check_memory(self, trained: Sequence[nn.Parameter]) -> None:
        """Say what a step takes, from the loss of one pair.

        Raises:
            RequirementError: it does not fit.
        """
        wrapped = self.module
        # Processes would wait for the gradient of a forward pass in the wrapper.
        self.module = self.accelerator.unwrap_model(wrapped)
        try:
            with self.accelerator.autocast():
                each = saved_bytes(lambda: self.loss([self._pairs(1)[0]]), self.module)
        finally:
            self.module = wrapped
        share = self.options.batch // self.accelerator.num_processes or 1
        told = check_memory(trained, share * each, self.accelerator.device, self.memory_remedy)
        if self.accelerator.is_main_process:
            self.say(f"Memory: {told}.")

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
            self._pairs(count),
            batch_size=options.batch // self.accelerator.num_processes or 1,
            sampler=self._numbers(count),
            num_workers=options.workers,
            collate_fn=_as_list,
            multiprocessing_context="spawn" if options.workers else None,
            generator=torch.Generator(),
        )
        yield from loader

    def _pairs(self, count: int) -> Pairs:
        options = self.options
        return Pairs(
            self.coded,
            count,
            self.training.seed,
            variants=options.variants,
            clean=options.clean,
        )

    def _numbers(self, count: int) -> list[int]:
        """Return the numbers of this process's pairs: in each batch its share, in order."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        share = self.options.batch // processes or 1
        first = self.step * self.options.batch
        return [n for n in range(first, count) if (n % self.options.batch) // share == rank]

    def rate_share(self) -> float:
        """Return the share of the learning rates at this step: rise, constant, cosine fall."""
        options = self.options
        return cosine(
            self.step, steps=options.steps, warmup=options.warmup, decay=options.decay, last=0.0
        )

    def update(self, batch: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Do one step on *batch*."""
        options, share = self.options, self.rate_share()
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

    def export(self, name: str = CHECKPOINT) -> Trained:
        """Write the checkpoint.

        Its header names method, VLM by name and hash, codec points, data and seed.
        """
        path = self.folder / name
        if self.accelerator.is_main_process:
            temporary = path.with_suffix(".tmp")
            dtype = getattr(torch, self.options.weights)
            state = {name: value.to(dtype) for name, value in self.state().items()}
            write_checkpoint(temporary, state, self._header())
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


def identity_of(training: Training) -> dict[str, Any]:
    """Return what makes a training this and no other, but for what is its method's own."""
    return {
        "vlm": training.identity.name,
        "vlm_weights": training.identity.weights,
        "points": [each.point.key for each in training.points],
        "pictures": _names_hash(training.pictures),
        "seed": training.seed,
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


def has_seen(about: Mapping[str, Any], point: CodecPoint) -> bool:
    """Whether the training of a checkpoint had a codec at a level.

    Args:
        about: header of the checkpoint.
        point: codec and level.
    """
    trained = {(each["codec"], each["level"]) for each in about["points"]}
    return (point.codec, point.level) in trained
