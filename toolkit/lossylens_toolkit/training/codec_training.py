"""Rate-distortion training of a learned codec, from scratch or from a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from lossylens.errors import ConfigError
from lossylens.registry.building import load_factory
from lossylens.registry.plugins import Registry
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lossylens_toolkit.neural_codec.checkpoints import (
    Checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from lossylens_toolkit.neural_codec.generative_codec import GenerativeCodec
from lossylens_toolkit.neural_codec.high_fidelity import HighFidelityNetwork
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.variable_rate import VariableRateCodec
from lossylens_toolkit.training.crops import Crops, picture_tensor
from lossylens_toolkit.training.klt import begin_as_klt, quantisation_step
from lossylens_toolkit.training.klt_high_fidelity import begin_high_fidelity
from lossylens_toolkit.training.loop import TrainingLoop, cosine, make_accelerator
from lossylens_toolkit.training.objective import Objective, Terms, psnr
from lossylens_toolkit.training.training_options import CodecTrainingOptions
from lossylens_toolkit.training.training_pictures import find_pictures

#: Options without which it would be another training; a folder holds one.
_IDENTITY = (
    *("level", "multiplier", "network", "start", "begin", "distortion"),
    *("rate", "perceptual", "adversarial", "gains"),
)

#: Crops from which the statistics of a beginning are taken.
_SAMPLE = 32

#: Root mean square of weights of some hundred inputs.
_USUAL = 0.03

#: Of gains and shifts of norms, whose inputs have unit variance.
_OF_NORMS = 1.0

#: What the rates fall to at the end, as a share.
_LAST_RATE = 0.01


def train_codec(
    name: str,
    options: CodecTrainingOptions,
    registry: Registry,
    say: Callable[[str], object] = print,
) -> Path:
    """Train a learned codec, or go on with it; return the checkpoint.

    Args:
        name: of the codec.
        options: see their class.
        registry: in which the codec is found.
        say: is given a line for each validation.

    Raises:
        ConfigError: the codec has no network to train, a level or a picture folder is
            unknown, the checkpoint to start from is another codec's, or the folder holds
            another training.
        RequirementError: what brings the photographs is not installed.
        TrainingError: the loss is no number any more.
    """
    codec = _codec(name, options, registry)
    kind = _kind(codec, options)
    training = kind(codec, options, registry, say)
    training.run()
    return training.export()


def _kind(codec: NeuralCodec, options: CodecTrainingOptions) -> type[CodecTraining]:
    if isinstance(codec, VariableRateCodec):
        from lossylens_toolkit.training.gain_training import GainTraining

        return GainTraining
    if options.gains.levels:
        raise ConfigError(f"gains is for codecs of variable rate; {codec.name} is none")
    if not options.generative:
        return CodecTraining
    if not isinstance(codec, GenerativeCodec):
        raise ConfigError(
            f"rate.target, perceptual and adversarial are for generative codecs; {codec.name} is"
            " none"
        )
    from lossylens_toolkit.training.generative_training import GenerativeTraining

    return GenerativeTraining


def _codec(name: str, options: CodecTrainingOptions, registry: Registry) -> NeuralCodec:
    found = registry.find("codec", name)
    factory = load_factory(found)
    if not issubclass(factory, NeuralCodec):
        raise ConfigError(f"codec {found.spec.name!r} has no network of lossylens's to train")
    codec: NeuralCodec = factory(found.spec.level(options.level), found.spec.options())
    return codec


class _Trained(nn.Module):
    """A network with its auxiliary loss, in one forward pass as data parallelism wants it."""

    def __init__(self, network: HyperpriorNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, level_map: Tensor | None = None) -> dict[str, Any]:
        at_levels = contextlib.nullcontext() if level_map is None else self.network.at(level_map)
        with at_levels:
            return {**self.network(x), "auxiliary": self.network.aux_loss()}


class CodecTraining(TrainingLoop[Tensor]):
    """One training of one level, in a folder of its own; see :func:`train_codec`."""

    def __init__(
        self,
        codec: NeuralCodec,
        options: CodecTrainingOptions,
        registry: Registry,
        say: Callable[[str], object],
    ) -> None:
        own = {"codec": codec.name, **dataclasses.asdict(options)}
        super().__init__(
            folder=options.out,
            identity={key: own[key] for key in ("codec", *_IDENTITY)},
            settings=own,
            steps=options.steps,
            validate_every=options.validate_every,
            state_minutes=options.state_minutes,
            accelerator=make_accelerator(options.device, options.mixed_precision),
            say=say,
        )
        self.codec, self.options, self.registry = codec, options, registry
        self.objective = Objective(self._multiplier(), options.distortion)
        self.train_pictures = find_pictures(options.train, registry, "train")
        self.validation_pictures = find_pictures(options.validation, registry, "validation")
        set_seed(options.seed, device_specific=True)
        network, self.config = self._initial_network()
        if options.begin == "klt" and not options.start:
            self._begin_as_klt(network)
        transforms, model, auxiliary = _parameters(network)
        # The rates of the groups are set at each step, from these.
        self.rates = [
            *(transform_rate(each, options) for each in transforms),
            options.learning_rate,
            *([options.auxiliary_learning_rate] if auxiliary else []),
        ]
        adam = functools.partial(torch.optim.Adam, fused=True)
        self.model, self.optimizer, self.auxiliary_optimizer = self.accelerator.prepare(
            _Trained(network),
            adam([*({"params": [each]} for each in transforms), {"params": model}]),
            # A prior without quantiles has nothing to learn beside the loss.
            adam(auxiliary) if auxiliary else None,
        )
        self._prepare(network)
        self.model.train()
        self.begin()

    @property
    def network(self) -> HyperpriorNetwork:
        """The network that is trained."""
        network: HyperpriorNetwork = self.accelerator.unwrap_model(self.model).network
        return network

    # ---------------------------------------------------------------- beginning

    def _multiplier(self) -> float:
        """Return the multiplier of the distortion."""
        if self.options.multiplier is not None:
            return self.options.multiplier
        named = self.codec.level.parameters.get("lambda")
        if named is None:
            raise ConfigError(
                f"multiplier: must be given; level {self.codec.level.name} of {self.codec.name}"
                " names none"
            )
        return float(named)

    def _initial_network(self) -> tuple[HyperpriorNetwork, Mapping[str, Any]]:
        """Return the network to begin with, and the arguments that it was built with."""
        options = self.options
        start = read_checkpoint(options.start) if options.start else Checkpoint({})
        try:
            network, config = self._built(start)
        except (ConfigError, TypeError, ValueError) as error:
            where = f"{options.start}" if options.start else "network"
            raise ConfigError(f"{where}: {error}") from error
        return network.float(), dict(config)

    def _built(self, start: Checkpoint) -> tuple[HyperpriorNetwork, Mapping[str, Any]]:
        """Return a network with the weights of *start*, which may be empty, and its arguments."""
        check_start(self.codec.name, start)
        config = self.options.network or self.codec.network_config(start)
        network = self.codec.build(config)
        if self.options.start:
            self.codec.load_official(network, start.state)
        return network, config

    def _begin_as_klt(self, network: HyperpriorNetwork) -> None:
        x = self._sample()
        step = quantisation_step(self.objective.multiplier)
        if isinstance(network, HighFidelityNetwork):
            begin_high_fidelity(network, x, step)
        else:
            begin_as_klt(network, x, step)

    def _prepare(self, network: HyperpriorNetwork) -> None:
        """Prepare what a subclass trains beside the network, so that states hold it."""

    def _sample(self) -> Tensor:
        """Return the first crops."""
        crops = self._crops(_SAMPLE)
        return torch.stack([crops[number] for number in range(_SAMPLE)])

    def _crops(self, count: int) -> Crops:
        options = self.options
        return Crops(self.train_pictures, self.codec.padding, options.crop, count, options.seed)

    # ---------------------------------------------------------------- training

    def batches(self) -> Iterator[Tensor]:
        """Yield the crops of the steps that are left."""
        options = self.options
        count = options.steps * options.batch
        loader = DataLoader(
            self._crops(count),
            batch_size=options.batch,
            sampler=range(self.step * options.batch, count),
            num_workers=options.workers,
            # With its own, it leaves alone the generator of the noise.
            generator=torch.Generator(),
        )
        yield from self.accelerator.prepare(loader)

    def update(self, x: Tensor) -> Mapping[str, Tensor]:
        """Do one step on crops."""
        return dict(vars(self._update(x)))

    def _update(self, x: Tensor) -> Terms:
        """Take one step and return the terms of its loss."""
        self._set_rates()
        out = self.model(x)
        terms = self.objective(out, x)
        # No parameter is in both losses.
        self._descend(terms.loss + out["auxiliary"])
        return terms

    @property
    def _optimizers(self) -> list[Any]:
        return [each for each in (self.optimizer, self.auxiliary_optimizer) if each]

    def _set_rates(self) -> None:
        groups = [group for each in self._optimizers for group in each.param_groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate * schedule(self.step, self.options)

    def _descend(self, loss: Tensor) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        self.accelerator.backward(loss)
        if self.step < self.options.hold:
            for transform in (self.network.g_a, self.network.g_s):
                transform.zero_grad()
        clipped = [each for group in self.optimizer.param_groups for each in group["params"]]
        self.accelerator.clip_grad_norm_(clipped, self.options.clip)
        for optimizer in self._optimizers:
            optimizer.step()

    # ---------------------------------------------------------------- validation

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation."""
        return (
            f"training loss {training['loss']:.4f}, {training['bpp']:.4f} bpp;"
            f" validation loss {validation['loss']:.4f}, {validation['bpp']:.4f} bpp,"
            f" {validation['psnr']:.2f} dB"
        )

    def validate(self) -> dict[str, float]:
        """Return mean loss, estimated bits per pixel, distortion and PSNR over whole pictures."""
        network = self.network.eval()
        points = [self._point(network, *each) for each in self.validation_pictures.items()]
        self.model.train()
        return {key: sum(point[key] for point in points) / len(points) for key in points[0]}

    @torch.no_grad()
    def _point(
        self, network: HyperpriorNetwork, name: str, read: Callable[[], bytes]
    ) -> dict[str, float]:
        x = (picture_tensor(name, read)[None].float() / 255).to(self.accelerator.device)
        height, width = x.shape[2:]
        out = network(self.codec.padding.pad(x))
        x_hat = self.codec.padding.crop(out["x_hat"], width, height)
        # Bits of the padding count, its pixels do not.
        terms = self.objective({**out, "x_hat": x_hat}, x)
        return {**terms.values(), "psnr": psnr(x_hat, x)}

    def export(self) -> Path:
        """Write the checkpoint and return its path."""
        path = self.options.out / f"{self._stem}.safetensors"
        if self.accelerator.is_main_process:
            dtype = getattr(torch, self.options.weights)
            state = self.codec.official_state(self.network)
            about = {
                "codec": self.codec.name,
                "config": self.config,
                "distortion": self.objective.distortion,
                "steps": self.step,
                **self._about(),
            }
            temporary = path.with_suffix(".tmp")
            write_checkpoint(
                temporary, {name: value.to(dtype) for name, value in state.items()}, about
            )
            temporary.replace(path)
        self.accelerator.wait_for_everyone()
        return path

    @property
    def _stem(self) -> str:
        return self.codec.level.name

    def _about(self) -> Mapping[str, Any]:
        """Return what of the rate the checkpoint says."""
        return {"level": self.codec.level.name, "multiplier": self.objective.multiplier}


def schedule(step: int, options: CodecTrainingOptions) -> float:
    """Return the share of the learning rates at *step*: linear rise, constant, cosine fall."""
    return cosine(
        step, steps=options.steps, warmup=options.warmup, decay=options.decay, last=_LAST_RATE
    )


def check_start(codec: str, start: Checkpoint) -> None:
    """Make sure that a checkpoint, if it says of which codec it is, is of this one.

    Raises:
        ConfigError: it is not.
    """
    found = start.about.get("codec", codec)
    if found != codec:
        raise ConfigError(f"the checkpoint is of codec {found}, not {codec}")


def _parameters(network: nn.Module) -> tuple[list[nn.Parameter], ...]:
    """Return the parameters of the transforms, of the probability model and the quantiles."""
    parts: dict[str, list[nn.Parameter]] = {"transforms": [], "model": [], "quantiles": []}
    for name, parameter in network.named_parameters():
        transform = name.startswith(("g_a.", "g_s."))
        quantiles = name.endswith(".quantiles")
        part = "quantiles" if quantiles else "transforms" if transform else "model"
        parts[part].append(parameter)
    return tuple(parts.values())


def transform_rate(parameter: nn.Parameter, options: CodecTrainingOptions) -> float:
    """Return the learning rate of a tensor of the transforms.

    Latents are tens of steps large and pixels a few tenths, so the weights between them
    differ by orders of magnitude, and one rate for all would drown some in noise.
    """
    if options.transform_learning_rate is None:
        return options.learning_rate
    magnitude = parameter.detach().square().mean().sqrt().item()
    if parameter.ndim == 4 and parameter.numel() == parameter.shape[1]:
        # Gains and shifts of channel norms; those of residual blocks begin as zeros.
        magnitude = max(magnitude, _OF_NORMS)
    elif parameter.ndim == 1 or not magnitude:
        magnitude = max(magnitude, _USUAL)
    return options.transform_learning_rate * magnitude
