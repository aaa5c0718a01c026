"""The fine-tuned variant: the codec's encoder and entropy model are trained with the adapter.

Liu et al. (arXiv:2509.24258) add the rate of Minnen et al. (NeurIPS 2018) to the loss and call
the codec's encoder fine-tuned.  So what makes latents and their probabilities is trained (g_a,
h_a, h_s, the context model, the gains of the encoder), and what makes pictures of them (g_s and
its gains) stays.  What comes of it is a codec of its own, to which the adapter belongs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens.adaptor import Trained, TrainingPoint
from lossylens.errors import ConfigError
from lossylens_toolkit.neural_codec.checkpoints import file_hash
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.neural_options import SUFFIXES, VARIABLE_RATE
from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.neural_codec.variable_rate import VariableRateCodec
from lossylens_toolkit.training.gain_training import draw_level_map
from lossylens_toolkit.training.joint_codec import (
    AUXILIARY_WEIGHT,
    network_to_train,
    parameter_groups,
    write_codec,
)
from lossylens_toolkit.training.pairs import Pair, Pairs
from lossylens_toolkit.training.tensor_pictures import scaled_tensors
from PIL.Image import Image
from torch import Tensor, nn

from lossylens_adaptor_cotam.adaptor import METHOD
from lossylens_adaptor_cotam.network import LatentFeatureAdapter, at_patches
from lossylens_adaptor_cotam.training import CotamTraining, relative_error

#: What makes pictures of latents.
_DECODER = ("g_s.", "level_gains.synthesis.")


class _Tuned(nn.Module):
    """Codec and adapter in one forward pass, as data parallelism wants it."""

    def __init__(
        self, adapter: LatentFeatureAdapter, network: HyperpriorNetwork, padding: Padding
    ) -> None:
        super().__init__()
        self.adapter, self.network, self._padding = adapter, network, padding

    def forward(self, x: Tensor, level_map: Tensor, layout: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return deltas of tokens, and what the network has made of a picture.

        Args:
            x: ``(1, 3, H, W)`` in 0..1.
            level_map: ``(1, h, w)`` of the padded picture's latents, or ``(1, 1, 1)``.
            layout: of the picture's tokens.
        """
        with self.network.at(level_map):
            out = {**self.network(self._padding.pad(x)), "auxiliary": self.network.aux_loss()}
        height, width = x.shape[-2:]
        latents, stride = out["y_hat"][0].float(), self.network.stride
        placed = at_patches(
            latents,
            stride,
            (width, height),
            layout.rectangles,
            layout.rows,
            layout.columns,
            self._padding.offset(width, height),
        )
        out["x_hat"] = self._padding.crop(out["x_hat"], width, height).float().clamp(0, 1)
        return self.adapter(placed), out


class FineTuning(CotamTraining):
    """One training of adapter and codec.

    Raises:
        ConfigError: as the base, or the codec is not of variable rate.
    """

    memory_remedy = "lower training.batch"

    def _begin(self, adapter: LatentFeatureAdapter) -> None:
        codec = self._trained_codec
        network = network_to_train(codec, _DECODER).to(self.accelerator.device)
        rate, learning = self._own.fine_tune.codec_rate, self._own.learning_rate
        groups: list[Mapping[str, Any]] = [{"params": list(adapter.parameters())}]
        groups += parameter_groups(network, share=rate, learning_rate=learning)
        self.prepare(_Tuned(adapter, network, codec.padding), groups)

    @functools.cached_property
    def _trained_codec(self) -> VariableRateCodec:
        codec = self.training.points[0].build()
        if not isinstance(codec, VariableRateCodec):
            raise ConfigError(
                f"training.fine_tune: {self.training.points[0].point.codec} is no codec of"
                " variable rate; take cotam-elic"
            )
        return codec

    @functools.cached_property
    def _places(self) -> Tensor:
        """Places of the training's levels among those of the network, ascending."""
        found = sorted({_place(each) for each in self.training.points})
        return torch.tensor(found, device=self.accelerator.device)

    @property
    def _tuned(self) -> _Tuned:
        tuned: _Tuned = self.accelerator.unwrap_model(self.module)
        return tuned

    def _pairs(self, count: int) -> Pairs:
        # Pictures as they are: they are coded at each step, by what the codec has become.
        return Pairs(self.coded, count, self.training.seed, clean=1.0)

    # ---------------------------------------------------------------- loss

    def loss(self, pairs: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Return low and high loss, rate and what is minimised; each picture at levels drawn."""
        states, layouts, rates, weighed, auxiliary = [], [], [], [], []
        for pair in pairs:
            x = self._pixels(pair.original)
            padded = self._trained_codec.padding.padded(x.shape[-1], x.shape[-2])
            sides = (side // self._trained_codec.network.stride for side in padded[::-1])
            drawn = draw_level_map(len(self._places), *sides).to(x.device)
            level_map = self._places[drawn][None]
            deltas, out = self._passed(self.module, x, level_map)
            entering, layout = self._entering(out, deltas, x)
            bpp, cost = self._rate(out["likelihoods"], level_map, x)
            states.append(entering)
            layouts.append(layout)
            rates.append(bpp)
            weighed.append(cost)
            auxiliary.append(out["auxiliary"])
        low, high = self._errors_of(states, layouts, self._wanted_of(pairs))
        rate = torch.stack(weighed).mean()
        loss = self._weighed(low, high) + self._own.fine_tune.rate * rate
        loss = loss + AUXILIARY_WEIGHT * torch.stack(auxiliary).mean()
        bpp = torch.stack(rates).mean().detach()
        return {"loss": loss, "low": low, "high": high.detach(), "bpp": bpp}

    def _passed(self, module: Any, x: Tensor, level_map: Tensor) -> tuple[Tensor, dict[str, Any]]:
        layout = self._vision.layout((x.shape[-1], x.shape[-2]))
        deltas, out = module(x, level_map, layout)
        return deltas, out

    def _entering(
        self, out: Mapping[str, Any], deltas: Tensor | None, x: Tensor
    ) -> tuple[Tensor, Any]:
        """Return tokens that enter, those of the decoded picture and *deltas*, and the layout."""
        layout = self._vision.layout((x.shape[-1], x.shape[-2]))
        if not self._own.reconstruction:
            assert deltas is not None
            return deltas, layout
        pictures = scaled_tensors(self._vision, out["x_hat"], METHOD)
        layer = self._own.layer
        [plain] = self._vision.hidden_states(pictures, {layer})[layer]
        return (plain if deltas is None else plain + deltas.to(plain)), layout

    def _rate(
        self, likelihoods: Mapping[str, Tensor], level_map: Tensor, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return bits per pixel, plain and with each position's bits times its lambda."""
        gains = self._tuned.network.level_gains
        assert gains is not None
        lambdas = torch.tensor(gains.lambdas, device=x.device)[level_map.round().long()]
        y, z = (-likelihoods[name].log2().sum(1) for name in ("y", "z"))
        pixels = x.shape[-1] * x.shape[-2]
        plain, weighed = y.sum() + z.sum(), (lambdas * y).sum() + lambdas.mean() * z.sum()
        return plain / pixels, weighed / pixels

    def _pixels(self, original: Image) -> Tensor:
        """Return what is coded, ``(1, 3, H, W)`` in 0..1."""
        pixels = torch.from_numpy(np.array(self._shown(original))).to(self.accelerator.device)
        return pixels.permute(2, 0, 1)[None].float() / 255

    # ---------------------------------------------------------------- validation

    @torch.no_grad()
    def validate(self) -> Mapping[str, Any]:
        """Return by level the errors without and with the adapter, and estimated bits per pixel."""
        tuned = self._tuned.eval()
        found = {
            f"{point.point.label} {point.point.level}": self._measured(tuned, point)
            for point in self.held_out.points
        }
        self.module.train()
        return found

    def _measured(self, tuned: _Tuned, point: TrainingPoint) -> dict[str, float]:
        count = min(self.validated, len(self.held_out.pictures))
        level_map = torch.full((1, 1, 1), _place(point), device=self.accelerator.device)
        ends: dict[str, list[Tensor]] = {"before": [], "after": []}
        rates = []
        for number in range(count):
            x = self._pixels(self.held_out.original(number))
            deltas, out = self._passed(tuned, x, level_map)
            rates.append(self._rate(out["likelihoods"], level_map, x)[0])
            for name, given in (("before", None), ("after", deltas)):
                if given is not None or self._own.reconstruction:
                    entering, layout = self._entering(out, given, x)
                    ends[name] += self._leaving([entering], [layout])
        wanted = self._held_out(count)
        errors = {
            name: relative_error(each, wanted).item() if each else float("nan")
            for name, each in ends.items()
        }
        return {**errors, "bpp": float(torch.stack(rates).mean())}

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation."""
        rates = ", ".join(f"{name} {each['bpp']:.4f}" for name, each in validation.items())
        return f"{super().told(training, validation)}; bpp {rates}"

    # ---------------------------------------------------------------- what comes of it

    def export(self, name: str = "") -> Trained:
        """Write the codec's checkpoint, then the adapter, which names it by its hash."""
        if self.accelerator.is_main_process:
            dtype = getattr(torch, self._own.weights)
            about = {"fine_tuned": self._own.fine_tune.rate, "steps": self.step}
            network = self._tuned.network
            write_codec(self._codec_path, self._trained_codec, network, dtype, about)
        self.accelerator.wait_for_everyone()
        made = super().export(*([name] if name else []))
        levels = [each.point.level for each in self.training.points]
        return Trained(made.checkpoint, dict.fromkeys(levels, self._codec_path))

    @property
    def _codec_path(self) -> Path:
        return self.folder / "codec" / f"{VARIABLE_RATE}{SUFFIXES[0]}"

    def about(self) -> Mapping[str, Any]:
        """Return what the adaptor needs to know."""
        return {
            **super().about(),
            "codec": {"space": "", "checkpoint": file_hash(self._codec_path)},
            "fine_tuned": self._own.fine_tune.rate,
        }


def _place(point: TrainingPoint) -> float:
    """Return the place of a point's level among those of its network."""
    codec = point.build()
    assert isinstance(codec, VariableRateCodec)
    return codec.place
