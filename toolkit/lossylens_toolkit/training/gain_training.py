"""Training of a codec of variable rate, from a checkpoint of one rate or from scratch.

Each picture of a step has a level map of its own: one level, blocks of random levels, or a
ramp over all of them (as the public code of Liu et al., arXiv:2509.24258, draws them), so
that borders between levels are seen.  The squared error of each pixel has the weight of its
level; the rate has the weight 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from lossylens.errors import ConfigError
from torch import Tensor
from torch.nn import functional

from lossylens_toolkit.neural_codec.checkpoints import Checkpoint
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.neural_options import VARIABLE_RATE, lambda_level
from lossylens_toolkit.neural_codec.variable_rate import VariableRateCodec
from lossylens_toolkit.training.codec_training import CodecTraining, check_start
from lossylens_toolkit.training.crops import picture_tensor
from lossylens_toolkit.training.objective import Terms, estimated_bits, psnr

_PEAK = 255.0

#: Sides of blocks of one level, in latents.
_BLOCKS = (1, 2, 4)


class GainTraining(CodecTraining):
    """One training of all levels.

    Raises:
        ConfigError: there are no levels, or one is not named by lambda; or an option is
            given that belongs to a training of one rate.
    """

    codec: VariableRateCodec

    # ---------------------------------------------------------------- beginning

    def _multiplier(self) -> float:
        options = self.options
        if not options.gains.levels:
            raise ConfigError(f"gains.levels: must be given; {self.codec.name} has many rates")
        if options.multiplier is not None or options.distortion != "mse" or options.generative:
            raise ConfigError(
                "gains: multiplier, distortion, rate, perceptual and adversarial are for networks"
                " of one rate; lambdas say the weight of the squared error"
            )
        self.names, self.lambdas = options.gains.levels, list(map(_lambda, options.gains.levels))
        return multiplier(_lambda(options.level))

    def _built(self, start: Checkpoint) -> tuple[HyperpriorNetwork, Mapping[str, Any]]:
        codec, options = self.codec, self.options
        if start.about.get("codec") == codec.name:
            network = codec.build(start.about["config"])
            codec.load_official(network, start.state)
            return network, start.about["config"]
        check_start(codec.base_codec.name, start)
        config = {
            "network": dict(options.network or codec.base_config(start)),
            "lambdas": self.lambdas,
            "reference": _lambda(options.level),
        }
        network = codec.build(config)
        if options.start:
            codec.load_base(network, start.state)
        return network, config

    # ---------------------------------------------------------------- training

    def _update(self, x: Tensor) -> Terms:
        self._set_rates()
        sides = tuple(side // self.network.stride for side in x.shape[-2:])
        maps = [draw_level_map(len(self.lambdas), *sides) for _ in x]
        level_map = torch.stack(maps).to(x.device)
        out = self.model(x, level_map.float())
        terms = self._terms(out, x, level_map)
        self._descend(terms.loss + out["auxiliary"])
        return terms

    def _terms(self, out: Mapping[str, Any], x: Tensor, level_map: Tensor) -> Terms:
        weights = torch.tensor(list(map(multiplier, self.lambdas)), device=x.device)[level_map]
        weights = functional.interpolate(weights[:, None], x.shape[-2:], mode="nearest")
        squares = (out["x_hat"].float() - x).square() * _PEAK**2
        bpp = estimated_bits(out["likelihoods"]) / (x.numel() / x.shape[1])
        return Terms(bpp + (weights * squares).mean(), bpp, squares.mean())

    # ---------------------------------------------------------------- validation

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation."""
        points = ", ".join(
            f"{name} {point['bpp']:.4f} bpp {point['psnr']:.2f} dB"
            for name, point in validation["levels"].items()
        )
        return (
            f"training loss {training['loss']:.4f}; validation loss {validation['loss']:.4f}: "
            + points
        )

    def validate(self) -> dict[str, Any]:
        """Return the mean loss, and of each level rate and PSNR, over whole pictures."""
        network = self.network.eval()
        points = {name: self._at_level(network, place) for place, name in enumerate(self.names)}
        self.model.train()
        loss = sum(point["loss"] for point in points.values()) / len(points)
        return {"loss": loss, "levels": points}

    def _at_level(self, network: HyperpriorNetwork, place: int) -> dict[str, float]:
        found = [
            self._picture_at(network, place, *each) for each in self.validation_pictures.items()
        ]
        return {key: sum(each[key] for each in found) / len(found) for key in found[0]}

    @torch.no_grad()
    def _picture_at(
        self, network: HyperpriorNetwork, place: int, name: str, read: Callable[[], bytes]
    ) -> dict[str, float]:
        x = (picture_tensor(name, read)[None].float() / _PEAK).to(self.accelerator.device)
        height, width = x.shape[2:]
        level_map = torch.full((1, 1, 1), place, device=x.device)
        with network.at(level_map.float()):
            out = network(self.codec.padding.pad(x))
        x_hat = self.codec.padding.crop(out["x_hat"], width, height)
        terms = self._terms({**out, "x_hat": x_hat}, x, level_map)
        return {**terms.values(), "psnr": psnr(x_hat, x)}

    # ---------------------------------------------------------------- checkpoint

    @property
    def _stem(self) -> str:
        return VARIABLE_RATE

    def _about(self) -> Mapping[str, Any]:
        return {}


def multiplier(value: float) -> float:
    """Return the weight of the squared error, on the scale of 0..255, that a lambda means."""
    return 1 / (value * _PEAK**2)


def draw_level_map(levels: int, rows: int, columns: int) -> Tensor:
    """Return a random level map ``(rows, columns)`` of whole numbers.

    A third are of one level, a third of blocks, a third are ramps over all levels.
    """
    kind = int(torch.randint(3, ()))
    if kind == 0:
        return torch.randint(levels, ()).expand(rows, columns)
    if kind == 1:
        block = _BLOCKS[int(torch.randint(len(_BLOCKS), ()))]
        coarse = torch.randint(levels, (-(-rows // block), -(-columns // block)))
        fine = coarse.repeat_interleave(block, 0).repeat_interleave(block, 1)
        return fine[:rows, :columns]
    along_rows, falling = (bool(torch.randint(2, ())) for _ in range(2))
    length = rows if along_rows else columns
    ramp = torch.arange(length) * levels // length
    ramp = ramp.flip(0) if falling else ramp
    return ramp[:, None].expand(rows, columns) if along_rows else ramp.expand(rows, columns)


def _lambda(name: str) -> float:
    level = lambda_level(name)
    if level is None:
        raise ConfigError(f"gains: level {name!r} names no lambda, as lambda0.0128 does")
    return cast(float, level.parameters["lambda"])
