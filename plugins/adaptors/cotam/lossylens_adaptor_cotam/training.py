"""Training: tokens of compressed pictures are drawn to those of the originals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from lossylens.adaptor import Trained, Trainer, Training
from lossylens.errors import ConfigError
from lossylens.images.pixels import squared
from lossylens_toolkit.clip.host_clip import load_host_clip
from lossylens_toolkit.clip.model import Clip
from lossylens_toolkit.training.adaptor_training import AdaptorTraining
from lossylens_toolkit.training.pairs import Pair, Variant
from PIL.Image import Image
from torch import Tensor

from lossylens_adaptor_cotam.adaptor import (
    ADAPTER,
    METHOD,
    OTHERS,
    AdaptedEncoder,
    OtherPicture,
    needs_of,
)
from lossylens_adaptor_cotam.network import LatentFeatureAdapter
from lossylens_adaptor_cotam.options import CotamTrainingOptions

#: Options without which it would be another training.
_IDENTITY = (
    *("low", "high", "low_first", "reconstruction", "layer"),
    *("latents", "grid", "heads", "match", "pooled_by"),
)

#: What enters of a picture, and what is matched of it.
Ends = tuple[Tensor, Tensor]

#: Pictures of the training whose latents the control ``other`` gets in a run.
_OTHERS = 16


class CotamTrainer(Trainer):
    """Trains the latent feature adapter of a VLM behind a codec."""

    options: CotamTrainingOptions

    def train(self, training: Training) -> Trained:
        """Train, or go on with what is in the folder; see :class:`~lossylens.adaptor.Trainer`."""
        kind = CotamTraining
        if self.options.fine_tune.rate:
            from lossylens_adaptor_cotam.fine_tuning import FineTuning

            kind = FineTuning
        loop = kind(training, self.options)
        loop.run()
        return loop.export()


class CotamTraining(AdaptorTraining):
    """One training.

    Raises:
        ConfigError: the codecs are not one checkpoint of one codec with latents, or the VLM
            gives no access to its vision encoder.
    """

    #: Pictures of the validation that are measured at each codec and level.
    validated = 16

    def __init__(self, training: Training, options: CotamTrainingOptions) -> None:
        self._codec = _codec(training)
        own = {name: getattr(options, name) for name in _IDENTITY}
        own["fine_tune"] = asdict(options.fine_tune)
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
        self._clip = self._load_clip() if options.match == "pooled" else None
        self._targets: LRUCache[int, tuple[Tensor, Tensor]] = LRUCache(
            options.kept_megabytes << 20, getsizeof=lambda pair: sum(each.nbytes for each in pair)
        )
        sample = self._latents(0)
        self._stride = sample.stride
        extra = self._vision.layout(self._shown(self.coded.original(0)).size).extra
        width = self._vision.width
        if options.heads is not None and width % options.heads:
            raise ConfigError(
                f"training.heads {options.heads}: it does not divide the encoder's width, {width}"
            )
        adapter = LatentFeatureAdapter(
            sample.values.shape[0], width, extra, options.grid, options.heads
        )
        self._adapted = AdaptedEncoder(
            self._vision,
            adapter.to(self.accelerator.device),
            reconstruction=options.reconstruction,
            layer=options.layer,
            latents=options.latents,
            others=list(self._others()),
        )
        self._begin(adapter)

    def _begin(self, adapter: LatentFeatureAdapter) -> None:
        """Say what is trained."""
        self.prepare(adapter, [{"params": adapter.parameters()}])

    def _load_clip(self) -> Clip:
        options = self._own
        pictures = self._vision.prepare([self._shown(self.coded.original(0))])
        clip = load_host_clip(options.pooled_by, self._vision, pictures, self.accelerator.device)
        if clip is None:
            raise ConfigError(
                f"training.pooled_by: {options.pooled_by} is not the CLIP whose image encoder is"
                f" that of {self.training.identity.label}; match: tokens needs none"
            )
        return clip

    def _shown(self, original: Image) -> Image:
        """Return what is coded of a picture."""
        square = self.training.points[0].point.square
        return original if square is None else squared(original, square)

    def _latents(self, number: int) -> Any:
        """Return latents of a picture, at one of the levels."""
        points = self.training.points
        return self.coded.variant(number, points[number % len(points)]).condition.latents

    def _others(self) -> Iterator[OtherPicture]:
        """Yield what the control gets: some pictures, each at every level."""
        count = min(_OTHERS, len(self.training.pictures)) if self._own.latents == "other" else 0
        for number in range(count):
            size = self._shown(self.coded.original(number)).size
            for point in self.training.points:
                latents = self.coded.variant(number, point).condition.latents
                assert latents is not None
                yield OtherPicture(latents, size, point.point.level)

    # ---------------------------------------------------------------- loss

    def loss(self, pairs: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Return low and high loss of all variants; see the options."""
        shown = [(number, v) for number, pair in enumerate(pairs) for v in pair.variants]
        variants = [variant for _, variant in shown]
        wanted = self._wanted_of(pairs)
        low, high = self._errors(variants, [wanted[number] for number, _ in shown], self.module)
        return {"loss": self._weighed(low, high), "low": low, "high": high.detach()}

    def _weighed(self, low: Tensor, high: Tensor) -> Tensor:
        return low if self._low_alone else self._own.low * low + self._own.high * high

    @property
    def _low_alone(self) -> bool:
        first = self.step < self._own.low_first * self._own.steps
        return bool(self._own.low) and (first or not self._own.high)

    def _errors(
        self, variants: Sequence[Variant], wanted: Sequence[Ends], adapter: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the relative errors of the tokens that enter, and of those that leave."""
        pictures = self._pictures(variants)
        conditions = [variant.condition for variant in variants]
        states, layouts = self._adapted.states(pictures, conditions, adapter)
        return self._errors_of(states, layouts, wanted)

    def _errors_of(
        self, states: Sequence[Tensor], layouts: Sequence[Any], wanted: Sequence[Ends]
    ) -> tuple[Tensor, Tensor]:
        """Return them for tokens that enter."""
        low = relative_error(states, [each for each, _ in wanted])
        if not self._own.high:
            return low, low.detach() * 0
        return low, relative_error(self._leaving(states, layouts), [each for _, each in wanted])

    def _leaving(self, states: Sequence[Tensor], layouts: Sequence[Any]) -> list[Tensor]:
        """Return what is matched at the encoder's end, of tokens that enter."""
        layer = self._own.layer
        if self._clip is not None:
            return [each.features for each in self._clip.tower.enter(layer, states, layouts)]
        last = self._vision.layers
        out = self._vision.hidden_states_from(layer, states, layouts, {last})[last]
        return [_read(one, layout) for one, layout in zip(out, layouts, strict=True)]

    def _pictures(self, variants: Sequence[Variant]) -> Sequence[Any]:
        if not self._own.reconstruction:
            return [None] * len(variants)
        images = [variant.image for variant in variants]
        return self._vision.prepare([image for image in images if image is not None])

    def _wanted_of(self, pairs: Sequence[Pair]) -> list[Ends]:
        return self._wanted([(pair.number, pair.original) for pair in pairs])

    @torch.no_grad()
    def _wanted(self, originals: Sequence[tuple[int, Any]]) -> list[Ends]:
        """Return what enters of the original, and what is matched of it, in float32."""
        new = {number: image for number, image in originals if number not in self._targets}
        found = {
            number: self._targets[number] for number, _ in originals if number in self._targets
        }
        if new:
            pictures = self._vision.prepare([self._shown(image) for image in new.values()])
            layer = self._own.layer
            entering = self._vision.hidden_states(pictures, {layer})[layer]
            leaving = self._leaving(entering, [each.layout for each in pictures])
            for number, first, last in zip(new, entering, leaving, strict=True):
                pair = first.half().cpu(), last.half().cpu()
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
        count = min(self.validated, len(self.held_out.pictures))
        found, wanted = {}, self._held_out(count)
        for point in self.held_out.points:
            variants = [self.held_out.variant(number, point) for number in range(count)]
            adapted, plain = (self._last(each) for each in (variants, _bare(variants)))
            found[f"{point.point.label} {point.point.level}"] = {
                "before": relative_error(plain, wanted).item() if plain else float("nan"),
                "after": relative_error(adapted, wanted).item(),
            }
        return found

    def _held_out(self, count: int) -> list[Tensor]:
        """Return what is matched of held-out originals."""
        images = [self._shown(self.held_out.original(number)) for number in range(count)]
        pictures = self._vision.prepare(images)
        layer = self._own.layer
        entering = self._vision.hidden_states(pictures, {layer})[layer]
        return self._leaving(entering, [each.layout for each in pictures])

    def _last(self, variants: Sequence[Variant]) -> list[Tensor]:
        """Return the last tokens; none where there is nothing to make them of."""
        conditions = [variant.condition for variant in variants]
        if not self._own.reconstruction and conditions[0].latents is None:
            return []
        states, layouts = self._adapted.states(self._pictures(variants), conditions)
        return self._leaving(states, layouts)

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
        state = self._adapted.adapter.state_dict()
        weights = {ADAPTER + name: value for name, value in state.items()}
        others = {
            f"{OTHERS}{number}": torch.from_numpy(np.array(each.latents.values))
            for number, each in enumerate(self._adapted.others)
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
            "match": options.match,
            "others": [
                {
                    "size": list(each.size),
                    "offset": list(each.latents.offset),
                    "level": each.level,
                }
                for each in self._adapted.others
            ],
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


def relative_error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the mean squared error over the variance of what is wanted."""
    one = torch.cat([each.float().flatten() for each in found])
    other = torch.cat([each.float().flatten() for each in wanted])
    return (one - other).square().mean() / other.var()
