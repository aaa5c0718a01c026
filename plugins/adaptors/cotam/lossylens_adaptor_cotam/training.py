"""Training: tokens of compressed pictures are drawn to those of the originals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from lossylens.adaptor import Trained, Trainer, Training
from lossylens.errors import ConfigError
from lossylens_toolkit.training.adaptor_training import AdaptorTraining
from lossylens_toolkit.training.pairs import Pair, Variant
from torch import Tensor

from lossylens_adaptor_cotam.adaptor import (
    ADAPTER,
    METHOD,
    OTHERS,
    AdaptedEncoder,
    needs_of,
)
from lossylens_adaptor_cotam.network import LatentFeatureAdapter
from lossylens_adaptor_cotam.options import CotamTrainingOptions

#: Pictures of the validation that are measured at each codec and level.
_VALIDATED = 16

#: Pictures of the training whose latents the control ``other`` gets in a run.
_OTHERS = 16


class CotamTrainer(Trainer):
    """Trains the latent feature adapter of a VLM behind a codec."""

    options: CotamTrainingOptions

    def train(self, training: Training) -> Trained:
        """Train, or go on with what is in the folder; see :class:`~lossylens.adaptor.Trainer`."""
        loop = CotamTraining(training, self.options)
        loop.run()
        return loop.export()


class CotamTraining(AdaptorTraining):
    """One training.

    Raises:
        ConfigError: the codecs are not one checkpoint of one codec with latents, or the VLM
            gives no access to its vision encoder.
    """

    def __init__(self, training: Training, options: CotamTrainingOptions) -> None:
        self._codec = _codec(training)
        names = ("low", "high", "low_first", "reconstruction", "layer", "latents", "grid", "heads")
        own = {name: getattr(options, name) for name in names}
        needs = needs_of(options.reconstruction)
        super().__init__(METHOD, training, options, own, needs=needs)
        self._own = options
        try:
            self._vision = training.vlm.vision
        except NotImplementedError as error:
            raise ConfigError(
                f"vlm: {training.identity.label} gives no access to its vision encoder"
            ) from error
        if options.layer >= self._vision.layers:
            raise ConfigError(
                f"training.layer {options.layer}: the encoder has {self._vision.layers} layers"
            )
        self._targets: LRUCache[int, tuple[Tensor, Tensor]] = LRUCache(
            options.kept_megabytes << 20, getsizeof=lambda pair: sum(each.nbytes for each in pair)
        )
        sample = self._latents(0)
        self._stride = sample.stride
        extra = self._vision.layout(self.coded.original(0).size).extra
        adapter = LatentFeatureAdapter(
            sample.values.shape[0], self._vision.width, extra, options.grid, options.heads
        )
        others = [(self._latents(n), self.coded.original(n).size) for n in self._other_numbers()]
        self._adapted = AdaptedEncoder(
            self._vision,
            adapter.to(self.accelerator.device),
            reconstruction=options.reconstruction,
            layer=options.layer,
            latents=options.latents,
            others=others,
        )
        self.prepare(adapter, [{"params": adapter.parameters()}])

    def _latents(self, number: int) -> Any:
        """Return latents of a picture, at one of the levels."""
        points = self.training.points
        return self.coded.variant(number, points[number % len(points)]).condition.latents

    def _other_numbers(self) -> range:
        """Return the pictures whose latents the control gets."""
        count = min(_OTHERS, len(self.training.pictures)) if self._own.latents == "other" else 0
        return range(count)

    # ---------------------------------------------------------------- loss

    def loss(self, pairs: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Return low and high loss of all variants; see the options."""
        shown = [(number, v) for number, pair in enumerate(pairs) for v in pair.variants]
        variants = [variant for _, variant in shown]
        wanted = self._wanted([(pair.number, pair.original) for pair in pairs])
        low, high = self._errors(variants, [wanted[number] for number, _ in shown], self.module)
        if self._low_alone:
            return {"loss": low, "low": low, "high": high.detach()}
        return {"loss": self._own.low * low + self._own.high * high, "low": low, "high": high}

    @property
    def _low_alone(self) -> bool:
        first = self.step < self._own.low_first * self._own.steps
        return bool(self._own.low) and (first or not self._own.high)

    def _errors(
        self, variants: Sequence[Variant], wanted: Sequence[tuple[Tensor, Tensor]], adapter: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the relative errors of the tokens that enter, and of those that leave."""
        vision, options = self._vision, self._own
        pictures = self._pictures(variants)
        conditions = [variant.condition for variant in variants]
        states, layouts = self._adapted.states(pictures, conditions, adapter)
        low = _relative_error(states, [each for each, _ in wanted])
        if not options.high:
            return low, low.detach() * 0
        out = vision.hidden_states_from(options.layer, states, layouts, {vision.layers})
        tokens = [
            _read(one, layout) for one, layout in zip(out[vision.layers], layouts, strict=True)
        ]
        return low, _relative_error(tokens, [each for _, each in wanted])

    def _pictures(self, variants: Sequence[Variant]) -> Sequence[Any]:
        if not self._own.reconstruction:
            return [None] * len(variants)
        images = [variant.image for variant in variants]
        return self._vision.prepare([image for image in images if image is not None])

    @torch.no_grad()
    def _wanted(self, originals: Sequence[tuple[int, Any]]) -> list[tuple[Tensor, Tensor]]:
        """Return the original's tokens that enter and leave, in float32."""
        new = {number: image for number, image in originals if number not in self._targets}
        found = {
            number: self._targets[number] for number, _ in originals if number in self._targets
        }
        if new:
            pictures = self._vision.prepare(list(new.values()))
            ends = (self._own.layer, self._vision.layers)
            states = self._vision.hidden_states(pictures, set(ends))
            for place, number in enumerate(new):
                first, last = (states[layer][place] for layer in ends)
                pair = first.half().cpu(), _read(last, pictures[place].layout).half().cpu()
                found[number] = pair
                if sum(each.nbytes for each in pair) <= self._targets.maxsize:
                    self._targets[number] = pair
        device = self.accelerator.device
        return [
            (found[number][0].float().to(device), found[number][1].float().to(device))
            for number, _ in originals
        ]

    # ---------------------------------------------------------------- validation

    @torch.no_grad()
    def validate(self) -> Mapping[str, Any]:
        """Return the relative error of the last tokens by codec and level, before and after."""
        count = min(_VALIDATED, len(self.held_out.pictures))
        vision, found = self._vision, {}
        originals = vision.prepare([self.held_out.original(number) for number in range(count)])
        wanted = [
            _read(one, picture.layout)
            for one, picture in zip(
                vision.hidden_states(originals, {vision.layers})[vision.layers],
                originals,
                strict=True,
            )
        ]
        for point in self.held_out.points:
            variants = [self.held_out.variant(number, point) for number in range(count)]
            adapted, plain = (self._last(each) for each in (variants, _bare(variants)))
            found[f"{point.point.label} {point.point.level}"] = {
                "before": _relative_error(plain, wanted).item() if plain else float("nan"),
                "after": _relative_error(adapted, wanted).item(),
            }
        return found

    def _last(self, variants: Sequence[Variant]) -> list[Tensor]:
        """Return the last tokens; none where there is nothing to make them of."""
        conditions = [variant.condition for variant in variants]
        if not self._own.reconstruction and conditions[0].latents is None:
            return []
        states, layouts = self._adapted.states(self._pictures(variants), conditions)
        last = self._vision.layers
        out = self._vision.hidden_states_from(self._own.layer, states, layouts, {last})[last]
        return [_read(one, layout) for one, layout in zip(out, layouts, strict=True)]

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation."""
        errors = ", ".join(
            f"{name} {each['before']:.3f} -> {each['after']:.3f}"
            for name, each in validation.items()
        )
        return f"low {training['low']:.4f}, high {training['high']:.4f}; token error {errors}"

    # ---------------------------------------------------------------- checkpoint

    def state(self) -> Mapping[str, Tensor]:
        """Return the adapter's weights, and the latents that the control is given in a run."""
        adapter = self.accelerator.unwrap_model(self.module)
        weights = {ADAPTER + name: value for name, value in adapter.state_dict().items()}
        others = {
            f"{OTHERS}{number}": torch.from_numpy(np.array(latents.values))
            for number, (latents, _) in enumerate(self._adapted.others)
        }
        return weights | others

    def about(self) -> Mapping[str, Any]:
        """Return what the adaptor needs to know."""
        options = self._own
        return {
            "codec": self._codec,
            "adapter": dict(self._adapted.adapter.described),
            "stride": self._stride,
            "reconstruction": options.reconstruction,
            "layer": options.layer,
            "latents": options.latents,
            "low": options.low,
            "high": options.high,
            "others": [list(size) for _, size in self._adapted.others],
        }


def _codec(training: Training) -> dict[str, str]:
    """Return latent space and checkpoint of the one codec of a training."""
    found = {
        (each.point.space, each.point.provenance.get("checkpoint", "")) for each in training.points
    }
    if len(found) != 1 or not all(next(iter(found))):
        names = ", ".join(sorted({each.point.label for each in training.points})) or "none"
        raise ConfigError(
            f"codecs: {names}; an adapter is for the latents of one checkpoint of one codec, at"
            " any of its levels"
        )
    [(space, checkpoint)] = found
    return {"space": space, "checkpoint": checkpoint}


def _bare(variants: Sequence[Variant]) -> list[Variant]:
    """Return *variants* without latents, which leaves the decoded picture as it is."""
    return [replace(each, condition=replace(each.condition, latents=None)) for each in variants]


def _read(states: Tensor, layout: Any) -> Tensor:
    """Return the tokens that a VLM reads: those of patches."""
    return states[:, layout.extra :]


def _relative_error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the mean squared error over the variance of what is wanted."""
    one = torch.cat([each.float().flatten() for each in found])
    other = torch.cat([each.float().flatten() for each in wanted])
    return (one - other).square().mean() / other.var()
