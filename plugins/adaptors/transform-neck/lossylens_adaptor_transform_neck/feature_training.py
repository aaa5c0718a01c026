"""What the trainings of neck and U-Net share: the VLM's encoder on originals as the teacher.

What is trained leads to hidden states of the encoder, from latents or from a repaired picture.
They are drawn to those of the original, and to its class, in the three stages of
arXiv:2407.19651: cross-entropy, both, distillation; without classes, distillation alone.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from cachetools import LRUCache
from lossylens.adaptor import Needs, Trained, Training, TrainingPicture
from lossylens.codec import Square
from lossylens.errors import ConfigError
from lossylens.images.pixels import squared
from lossylens.vlm import VisionAccess
from lossylens_toolkit.clip.host_clip import load_host_clip
from lossylens_toolkit.clip.model import Clip
from lossylens_toolkit.clip.templates import TEMPLATES
from lossylens_toolkit.training.adaptor_training import AdaptorTraining
from lossylens_toolkit.training.pairs import Pair, Variant
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, mse_loss, normalize

from lossylens_adaptor_transform_neck.hosts import host_side, layout_of
from lossylens_adaptor_transform_neck.options import FeatureTrainingOptions
from lossylens_adaptor_transform_neck.placing import STRIDE

#: Options without which it would be another training.
_IDENTITY = ("match", "scaled", "stages", "later_rate", "distillation")

#: Pictures from which the deviations of channels are taken.
_SAMPLE = 16

#: Pictures of the validation that are measured.
_VALIDATED = 64

#: Hidden states of an encoder that come of what is trained, by layer and image.
Hidden = Callable[[VisionAccess, Collection[int]], Mapping[int, Sequence[Tensor]]]


class FeatureTraining(AdaptorTraining):
    """One training, for one codec at one level.

    Raises:
        ConfigError: there is more or less than one codec at one level, or it codes no squares;
            encoder and latents do not lie one to one; CLIP is not the VLM's.
    """

    memory_remedy = "lower training.batch"

    def __init__(
        self,
        method: str,
        training: Training,
        options: FeatureTrainingOptions,
        identity: Mapping[str, Any],
        needs: Needs,
    ) -> None:
        if len(training.points) != 1:
            raise ConfigError("codecs: expected one codec at one level; train once for each")
        self.point = training.points[0].point
        own = {
            "square": str(self.point.square),
            **{name: getattr(options, name) for name in _IDENTITY},
            "classes": asdict(options.classes),
            **identity,
        }
        super().__init__(method, training, options, own, needs=needs)
        self._features = options
        self.square = self._square()
        self.vision = training.vlm.vision
        rows = self.square.side // STRIDE
        self.host = replace(self.square, side=host_side(self.vision, rows))
        self.layout = layout_of(self.vision, rows, self.square, (self.square.side,) * 2)
        self._clip = self._load_clip() if options.classes.clip else None
        self._classes = _class_names(training) if self._clip else []
        self._vectors = self._class_vectors()
        self._known: LRUCache[str, Tensor] = LRUCache(
            options.kept_megabytes << 20, getsizeof=lambda states: states.nbytes
        )
        self._deviation = self._find_deviation()

    @abstractmethod
    def given(self, originals: Sequence[Any], variants: Sequence[Variant]) -> Tensor:
        """Return what :attr:`module` takes, of pictures and what the codec leaves of them."""

    @abstractmethod
    def hidden(self, made: Tensor) -> Hidden:
        """Return the hidden states that come of what the module has *made*."""

    def terms_of_codec(self, given: Tensor, out: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return further terms, of what else the module gave."""
        return {}

    def total(self, terms: Mapping[str, Tensor], out: Mapping[str, Any]) -> Tensor:
        """Return the loss: classification, both, distillation, as far as the steps are."""
        return self._staged(terms)

    # ---------------------------------------------------------------- beginning

    def _square(self) -> Square:
        square = self.point.square
        if square is None or square.side % STRIDE:
            raise ConfigError(
                "codecs: latents must lie on the patches of the vision encoder, so pictures are"
                " coded as squares: square: {side: 256} for an encoder that sees 224 pixels in"
                f" patches of 14; the side is a multiple of {STRIDE}"
            )
        return square

    # ---------------------------------------------------------------- classes

    def _load_clip(self) -> Clip:
        name, pictures = self._features.classes.clip, self._prepared([self.coded.original(0)])
        clip = load_host_clip(name, self.vision, pictures, self.accelerator.device)
        if clip is None:
            raise ConfigError(
                f"training.classes.clip: {name} is not the CLIP whose image"
                f" encoder is that of {self.training.identity.label}"
            )
        return clip

    def _class_vectors(self) -> Tensor | None:
        if self._clip is None:
            return None
        templates = self._features.classes.templates or TEMPLATES
        return self._clip.class_vectors(self._classes, templates)

    def _logits(self, embedding: Tensor) -> Tensor:
        """Return the logits of classes, given embeddings ``(images, width)``."""
        assert self._clip is not None
        assert self._vectors is not None
        if self._features.classes.logits == "embedding":
            return embedding @ self._vectors.T
        scale = self._clip.scale if self._features.classes.logits == "clip" else 1.0
        return scale * normalize(embedding, dim=-1) @ self._vectors.T

    def _labels(self, pictures: Sequence[TrainingPicture], numbers: Sequence[int]) -> Tensor:
        found = [self._classes.index(pictures[number].label) for number in numbers]
        return torch.tensor(found, device=self.accelerator.device)

    # ---------------------------------------------------------------- loss

    def _prepared(self, originals: Sequence[Any]) -> Sequence[Any]:
        """Return pictures of what is coded, in the size that the encoder sees."""
        return self.vision.prepare([squared(each, self.host) for each in originals])

    @torch.no_grad()
    def _wanted(self, originals: Mapping[str, Any]) -> list[Tensor]:
        """Return what is matched, of originals by key, in float32."""
        new = {key: each for key, each in originals.items() if key not in self._known}
        found: dict[str, Tensor] = {}
        if new:
            pictures = self._prepared(list(new.values()))
            for key, states in zip(new, self._matched_of(pictures), strict=True):
                found[key] = states.float().cpu()
                if found[key].nbytes <= self._known.maxsize:
                    self._known[key] = found[key]
        return [
            (found[key] if key in found else self._known[key]).to(self.accelerator.device)
            for key in originals
        ]

    def _matched_of(self, pictures: Sequence[Any]) -> Sequence[Tensor]:
        if self._features.match == "cls":
            assert self._clip is not None
            return [each.features for each in self._clip.tower.encode(pictures)]
        if self._features.match == "features":
            return [each.features for each in self.vision.encode(pictures)]
        layer = self.vision.layers
        return [self._patches(each) for each in self.vision.hidden_states(pictures, [layer])[layer]]

    def _patches(self, states: Tensor) -> Tensor:
        return states[:, self.layout.extra :]

    def _find_deviation(self) -> Tensor | None:
        """Return the standard deviation of each channel of what is matched."""
        if not self._features.scaled:
            return None
        count = min(_SAMPLE, len(self.training.pictures))
        sample = self._wanted({str(number): self.coded.original(number) for number in range(count)})
        return torch.cat([each.flatten(0, -2) for each in sample]).std(0).clamp_min(1e-6)

    def _distance(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Return the mean squared error of all elements."""
        one, other = (torch.stack([each.float() for each in some]) for some in (found, wanted))
        if self._deviation is not None:
            one, other = one / self._deviation, other / self._deviation
        return mse_loss(one, other)

    def _read(self, hidden: Hidden, images: int) -> tuple[Sequence[Tensor], Tensor | None]:
        """Return what is matched, and the embeddings where there are classes."""
        layouts, match = [self.layout] * images, self._features.match
        own = self.vision.layers
        if self._clip is None:
            states, embedded = hidden(self.vision, [own])[own], None
        else:
            tower = self._clip.tower
            own = min(own, tower.layers)
            passed = hidden(tower, {own, tower.layers})
            encoded = tower.enter(tower.layers, passed[tower.layers], layouts)
            states, embedded = passed[own], torch.cat([each.features for each in encoded])
        if match == "cls":
            assert embedded is not None
            return list(embedded[:, None]), embedded
        if match == "tokens":
            return [self._patches(each) for each in states], embedded
        entered = self.vision.enter(self.vision.layers, states, layouts)
        return [each.features for each in entered], embedded

    def loss(self, pairs: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Return the distance of what is matched, cross-entropy, and what else there is."""
        # A picture may come twice in a batch.
        originals = {str(pair.number): pair.original for pair in pairs}
        known = dict(zip(originals, self._wanted(originals), strict=True))
        given = self.given([pair.original for pair in pairs], [pair.variants[0] for pair in pairs])
        with self._attention():
            made, out = self.module(given)
            found, embedded = self._read(self.hidden(made), len(pairs))
        wanted = [known[str(pair.number)] for pair in pairs]
        terms = {"distillation": self._distance(found, wanted)}
        if embedded is not None:
            labels = self._labels(self.training.pictures, [pair.number for pair in pairs])
            terms["cross_entropy"] = cross_entropy(self._logits(embedded.float()), labels)
        terms |= self.terms_of_codec(given, out)
        return {"loss": self.total(terms, out), **terms}

    def _attention(self) -> contextlib.AbstractContextManager[None]:
        """Compute attention in plain steps on a CPU in bf16.

        A step of nano-llava takes 13 ms for a picture and 18 with PyTorch's fused kernel, of
        whose backward pass most of that is.
        """
        accelerator = self.accelerator
        if accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16":
            context: contextlib.AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
            return context
        return contextlib.nullcontext()

    def _staged(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of the stage: classification, both, distillation."""
        if "cross_entropy" not in terms:
            return terms["distillation"]
        done, (first, second) = self.step / self.steps, self._features.stages
        if done < first:
            return terms["cross_entropy"]
        # With the same weight to the end, as Adam remembers how large gradients were.
        distillation = self._features.distillation * terms["distillation"]
        return terms["cross_entropy"] + distillation if done < second else distillation

    @property
    def is_staged(self) -> bool:
        """Whether the stages decide the loss."""
        return self._clip is not None

    def rate_share(self) -> float:
        """Return the share of the learning rates, less from the end of the first stage on."""
        drops = self.is_staged and self.step >= self._features.stages[0] * self.steps
        return super().rate_share() * (self._features.later_rate if drops else 1.0)

    # ---------------------------------------------------------------- validation

    @torch.no_grad()
    def validate(self) -> Mapping[str, Any]:
        """Return the mean distance of what is matched, and what else is measured."""
        self.module.eval()
        sums: dict[str, float] = {}
        count = min(_VALIDATED, len(self.held_out.pictures))
        for number in range(count):
            for name, value in self._measured(number).items():
                sums[name] = sums.get(name, 0.0) + value / count
        self.module.train()
        return sums

    def _measured(self, number: int) -> dict[str, float]:
        original = self.held_out.original(number)
        [wanted] = self._wanted({f"held out {number}": original})
        variant = self.held_out.variant(number, self.training.points[0])
        given = self.given([original], [variant])
        made, out = self.accelerator.unwrap_model(self.module)(given)
        found, embedded = self._read(self.hidden(made), 1)
        terms = {"distillation": float(self._distance(found, [wanted]))}
        if embedded is not None:
            [label] = self._labels(self.training.validation, [number])
            terms["accuracy"] = float(self._logits(embedded.float()).argmax() == label)
        return {**terms, **self.measures_of_codec(given, out)}

    def measures_of_codec(self, given: Tensor, out: Mapping[str, Any]) -> Mapping[str, float]:
        """Return what is measured of what else the module gave."""
        return {}

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation."""
        trained = ", ".join(f"{name} {value:.4f}" for name, value in training.items())
        held_out = ", ".join(f"{name} {value:.4f}" for name, value in validation.items())
        return f"{trained}; held out: {held_out}"

    # ---------------------------------------------------------------- what comes of it

    def about(self) -> Mapping[str, Any]:
        """Return what the adaptor needs to know."""
        return {
            "match": self._features.match,
            "layers": self.vision.layers,
            "square": asdict(self.square),
        }

    def export(self, name: str = "") -> Trained:
        """Write the checkpoint, by default as ``LEVEL.safetensors``."""
        return super().export(name or f"{self.point.level}.safetensors")


def _class_names(training: Training) -> list[str]:
    """Return the classes, which are the labels of pictures.

    Raises:
        ConfigError: there is none, or but one; a picture of the validation is of no class.
    """
    found = sorted({each.label for each in training.pictures})
    if len(found) < 2 or not all(found):
        raise ConfigError(
            "training.classes: pictures must lie in folders that are named as their class, of"
            " which there are two or more, or come from a task that labels them (scenes); leave"
            " out classes.clip for distillation alone"
        )
    for each in training.validation:
        if each.label not in found:
            raise ConfigError(f"validation: {each.name} is of no class of the training")
    return found
