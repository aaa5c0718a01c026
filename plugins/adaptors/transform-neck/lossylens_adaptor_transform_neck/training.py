"""Training: what the encoder makes of latents is drawn to what it makes of the picture.

Phase 1 (``d1``) trains the neck for a frozen codec.  In phase 2 the codec is trained too, for
rate, pictures and features (``d2``) or rate and features (``d3``); what comes of it is a codec
of its own, to which the neck belongs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from lossylens.adaptor import Needs, Trained, Trainer, Training, TrainingPicture
from lossylens.codec import Square
from lossylens.errors import ConfigError
from lossylens.images.pixels import squared
from lossylens_toolkit.clip.model import Clip, load_clip
from lossylens_toolkit.clip.templates import TEMPLATES
from lossylens_toolkit.neural_codec.checkpoints import (
    file_hash,
    read_checkpoint,
    write_checkpoint,
)
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.training.adaptor_training import AdaptorTraining
from lossylens_toolkit.training.objective import estimated_bits, psnr
from lossylens_toolkit.training.pairs import Pair
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from lossylens_adaptor_transform_neck.hosts import host_side, layout_of
from lossylens_adaptor_transform_neck.neck import NeckShape, TransformNeck
from lossylens_adaptor_transform_neck.neck_file import METHOD, STRIDE, read_neck
from lossylens_adaptor_transform_neck.options import NeckTrainingOptions

#: Options without which it would be another training.
_IDENTITY = (
    *("phase", "entry", "match", "scaled", "blocks", "hidden", "stages", "later_rate"),
    "distillation",
)

#: Pictures from which the deviations of channels are taken.
_SAMPLE = 16

#: Pictures of the validation that are measured.
_VALIDATED = 64

#: How far the states of CLIP and of the VLM's encoder may be apart, relative to their size.
_SAME = 1e-2

#: Learning rate of the quantiles of entropy bottlenecks, as codecs are trained.
_AUXILIARY_RATE = 1e-3

#: Of the quantiles' loss: Adam does not care, and the norm at which gradients are clipped does.
_AUXILIARY_WEIGHT = 1e-4

#: Of samples in 0..255 against those in 0..1.
_PEAK_SQUARED = 255.0**2


class NeckTrainer(Trainer):
    """Trains a neck."""

    options: NeckTrainingOptions

    def train(self, training: Training) -> Trained:
        """Train, or go on with what is in the folder; see :class:`~lossylens.adaptor.Trainer`."""
        loop = NeckTraining(training, self.options)
        loop.run()
        return loop.export()


class _Trained(nn.Module):
    """A neck, and the codec's network where that is trained too."""

    def __init__(self, neck: TransformNeck, network: HyperpriorNetwork | None) -> None:
        super().__init__()
        self.neck, self.network = neck, network

    def forward(self, given: Tensor) -> tuple[Tensor, Mapping[str, Any]]:
        """Return hidden states, and what the network has made of pictures.

        Args:
            given: latents, or pictures where there is a network.
        """
        if self.network is None:
            return self.neck(given), {}
        out = self.network(given)
        return self.neck(out["y_hat"]), {**out, "auxiliary": self.network.aux_loss()}


class NeckTraining(AdaptorTraining):
    """One training.

    Raises:
        ConfigError: there is more or less than one codec at one level, it has no latents or
            codes no squares; encoder and latents do not lie one to one; CLIP is not the VLM's;
            the neck to start from is another codec's.
    """

    memory_remedy = "lower training.batch"

    def __init__(self, training: Training, options: NeckTrainingOptions) -> None:
        if len(training.points) != 1 or not training.points[0].point.space:
            raise ConfigError("codecs: a neck is of one codec with latents, at one level")
        own = {
            "square": str(training.points[0].point.square),
            **{name: getattr(options, name) for name in _IDENTITY},
            "start": file_hash(options.start) if options.start else "",
            "classes": asdict(options.classes),
            "joint": asdict(options.joint),
        }
        super().__init__(METHOD, training, options, own, needs=Needs.LATENTS)
        self._own = options
        self._point = training.points[0].point
        self.square = self._square()
        self._vision = training.vlm.vision
        rows = self.square.side // STRIDE
        if options.entry > self._vision.layers:
            raise ConfigError(f"training.entry: the encoder has {self._vision.layers} layers")
        self._teacher_square = replace(self.square, side=host_side(self._vision, rows))
        sides = (self.square.side,) * 2
        self._layout = layout_of(self._vision, rows, self.square, sides)
        self._clip = self._load_clip() if options.classes.clip else None
        self._classes = _class_names(training) if self._clip else []
        self._vectors = self._class_vectors()
        self._known: LRUCache[str, Tensor] = LRUCache(
            options.kept_megabytes << 20, getsizeof=lambda states: states.nbytes
        )
        self._deviation = self._find_deviation()
        self._codec = training.points[0].build()
        network = self._network() if options.phase != "d1" else None
        self._multiplier = self._find_multiplier() if network else 0.0
        neck = self._begin(rows)
        self.prepare(_Trained(neck, network), list(self._groups(neck, network)))

    # ---------------------------------------------------------------- what is trained

    def _square(self) -> Square:
        square = self._point.square
        if square is None or square.side % (4 * STRIDE):
            raise ConfigError(
                "codecs: latents must lie on the patches of the vision encoder, so pictures are"
                " coded as squares: square: {side: 256} for an encoder that sees 224 pixels in"
                f" patches of 14; the side is a multiple of {4 * STRIDE}"
            )
        return square

    def _begin(self, rows: int) -> TransformNeck:
        if self._own.start is not None:
            return self._started(self._own.start, rows)
        latents = self.coded.variant(0, self.training.points[0]).condition.latents
        assert latents is not None
        width = self._vision.width
        shape = NeckShape(
            channels=len(latents.values),
            width=width,
            rows=rows,
            columns=rows,
            extra=self._layout.extra,
            blocks=self._own.blocks,
            heads=max(1, width // 64),
            hidden=self._own.hidden or 4 * width,
        )
        return TransformNeck(shape)

    def _started(self, start: Path, rows: int) -> TransformNeck:
        """Return the neck to begin with.

        Raises:
            ConfigError: it enters at another layer or takes other latents, or, in phase 2, is
                not that of the codec.
        """
        file = read_neck(start)
        reason = ""
        if file.entry != self._own.entry:
            reason = f"enters at layer {file.entry}, not at training.entry, {self._own.entry}"
        elif (file.shape.rows, file.shape.width) != (rows, self._vision.width):
            reason = "is for another vision encoder or square"
        elif self._own.phase != "d1":
            reason = file.unfit(self.training.identity, self._point)
        if reason:
            raise ConfigError(f"training.start: {start}: {reason}")
        return file.load().requires_grad_(True)

    def _network(self) -> HyperpriorNetwork:
        if not isinstance(self._codec, NeuralCodec):
            raise ConfigError(
                f"training.phase: codec {self._point.codec} has no network of lossylens's to train"
            )
        return self._codec.network.float().requires_grad_(True)

    def _find_multiplier(self) -> float:
        given = self._own.joint.multiplier
        if given is not None:
            return given
        about = read_checkpoint(self._codec.checkpoint).about
        own, distortion = about.get("multiplier"), about.get("distortion")
        if not isinstance(own, float) or distortion != "mse":
            raise ConfigError(
                "training.joint.multiplier: must be given; the codec's checkpoint does not say"
                " with which multiplier of the MSE it was trained"
            )
        return own * _PEAK_SQUARED / self._own.joint.gamma

    def _groups(
        self, neck: TransformNeck, network: HyperpriorNetwork | None
    ) -> Sequence[Mapping[str, Any]]:
        groups: list[Mapping[str, Any]] = [{"params": list(neck.parameters())}]
        if network is None:
            return groups
        if self._own.phase == "d3":
            network.g_s.requires_grad_(False)
        named = [(name, each) for name, each in network.named_parameters() if each.requires_grad]
        quantiles = [each for name, each in named if name.endswith("quantiles")]
        rest = [each for name, each in named if not name.endswith("quantiles")]
        groups.append({"params": rest, "share": self._own.joint.codec_rate})
        share = _AUXILIARY_RATE / self._own.learning_rate
        return [*groups, *([{"params": quantiles, "share": share}] if quantiles else [])]

    @property
    def _trained(self) -> _Trained:
        trained: _Trained = self.accelerator.unwrap_model(self.module)
        return trained

    # ---------------------------------------------------------------- classes

    def _load_clip(self) -> Clip:
        clip = load_clip(self._own.classes.clip, device=self.accelerator.device)
        layers = [min(self._vision.layers, clip.tower.layers)]
        pictures = self._prepared([self.coded.original(0)])
        with torch.no_grad():
            try:
                [mine] = self._vision.hidden_states(pictures, layers)[layers[0]]
                [others] = clip.tower.hidden_states(pictures, layers)[layers[0]]
                apart = (mine.float() - others).norm() / others.norm()
            except (RuntimeError, ConfigError):  # of other patches or widths
                apart = torch.tensor(torch.inf)
        if not apart < _SAME:
            raise ConfigError(
                f"training.classes.clip: {self._own.classes.clip} is not the CLIP whose image"
                f" encoder is that of {self.training.identity.label}"
            )
        return clip

    def _class_vectors(self) -> Tensor | None:
        if self._clip is None:
            return None
        templates = self._own.classes.templates or TEMPLATES
        return self._clip.class_vectors(self._classes, templates)

    def _logits(self, embedding: Tensor) -> Tensor:
        """Return the logits of classes, given embeddings ``(images, width)``."""
        assert self._clip is not None
        assert self._vectors is not None
        if self._own.classes.logits == "embedding":
            return embedding @ self._vectors.T
        scale = self._clip.scale if self._own.classes.logits == "clip" else 1.0
        return scale * normalize(embedding, dim=-1) @ self._vectors.T

    def _labels(self, pictures: Sequence[TrainingPicture], numbers: Sequence[int]) -> Tensor:
        found = [self._classes.index(_class_of(pictures[number])) for number in numbers]
        return torch.tensor(found, device=self.accelerator.device)

    # ---------------------------------------------------------------- loss

    def _prepared(self, originals: Sequence[Any]) -> Sequence[Any]:
        """Return pictures of what is coded, in the size that the encoder sees."""
        return self._vision.prepare([squared(each, self._teacher_square) for each in originals])

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
        if self._own.match == "cls":
            assert self._clip is not None
            return [each.features for each in self._clip.tower.encode(pictures)]
        if self._own.match == "features":
            return [each.features for each in self._vision.encode(pictures)]
        layer = self._vision.layers
        return [
            self._patches(each) for each in self._vision.hidden_states(pictures, [layer])[layer]
        ]

    def _patches(self, states: Tensor) -> Tensor:
        return states[:, self._layout.extra :]

    def _find_deviation(self) -> Tensor | None:
        """Return the standard deviation of each channel of what is matched."""
        if not self._own.scaled:
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

    def _found(self, states: Tensor) -> tuple[Sequence[Tensor], Tensor | None]:
        """Return what is matched, and the embeddings where there are classes."""
        dtype = next(iter(self._vision.parameters().values())).dtype
        entered = [each[None].to(dtype) for each in states]
        layouts, entry = [self._layout] * len(entered), self._own.entry
        if self._clip is None:
            if self._own.match == "features":
                encoded = self._vision.enter(entry, entered, layouts)
                return [each.features for each in encoded], None
            layer = self._vision.layers
            passed = self._vision.hidden_states_from(entry, entered, layouts, [layer])
            return [self._patches(each) for each in passed[layer]], None
        tower = self._clip.tower
        own = min(self._vision.layers, tower.layers)
        passed = tower.hidden_states_from(entry, entered, layouts, [own, tower.layers])
        embedded = [
            each.features for each in tower.enter(tower.layers, passed[tower.layers], layouts)
        ]
        if self._own.match == "cls":
            return embedded, torch.cat(embedded)
        if self._own.match == "tokens":
            return [self._patches(each) for each in passed[own]], torch.cat(embedded)
        encoded = self._vision.enter(self._vision.layers, passed[own], layouts)
        return [each.features for each in encoded], torch.cat(embedded)

    def loss(self, pairs: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Return the distance of what is matched, cross-entropy, rate and distortion."""
        # A picture may come twice in a batch.
        originals = {f"{pair.number}": pair.original for pair in pairs}
        known = dict(zip(originals, self._wanted(originals), strict=True))
        given = self._given(pairs)
        states, out = self.module(given)
        found, embedded = self._found(states)
        wanted = [known[f"{pair.number}"] for pair in pairs]
        terms = {"distillation": self._distance(found, wanted)}
        if embedded is not None:
            labels = self._labels(self.training.pictures, [pair.number for pair in pairs])
            terms["cross_entropy"] = cross_entropy(self._logits(embedded.float()), labels)
        if self._own.phase == "d1":
            return {"loss": self._staged(terms), **terms}
        joint, pixels = self._own.joint, given.shape[0] * given.shape[-1] * given.shape[-2]
        terms["bpp"] = estimated_bits(out["likelihoods"]) / pixels
        distortion = joint.delta * terms["distillation"]
        if self._own.phase == "d2":
            terms["mse"] = mse_loss(out["x_hat"].float(), given)
            distortion = distortion + joint.gamma * terms["mse"]
        # No parameter of the auxiliary loss is in the other.
        auxiliary = _AUXILIARY_WEIGHT * out["auxiliary"]
        total = terms["bpp"] + self._multiplier * distortion + auxiliary
        return {"loss": total, **terms}

    def _given(self, pairs: Sequence[Pair]) -> Tensor:
        if self._own.phase != "d1":
            return self._pixels([pair.original for pair in pairs])
        found = []
        for pair in pairs:
            [variant] = pair.variants
            assert variant.condition.latents is not None
            found.append(torch.from_numpy(variant.condition.latents.values))
        return torch.stack(found).to(self.accelerator.device)

    def _pixels(self, originals: Sequence[Any]) -> Tensor:
        """Return what is coded, ``(B, 3, side, side)`` in 0..1."""
        found = [torch.from_numpy(np.array(squared(each, self.square))) for each in originals]
        return torch.stack(found).to(self.accelerator.device).permute(0, 3, 1, 2).float() / 255

    def _staged(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of the stage: classification, both, distillation."""
        if "cross_entropy" not in terms:
            return terms["distillation"]
        done, (first, second) = self.step / self.steps, self._own.stages
        if done < first:
            return terms["cross_entropy"]
        if done < second:
            return terms["cross_entropy"] + self._own.distillation * terms["distillation"]
        return terms["distillation"]

    def rate_share(self) -> float:
        """Return the share of the learning rates, less from the end of the first stage on."""
        later = self._clip and self._own.phase == "d1"
        drops = later and self.step >= self._own.stages[0] * self.steps
        return super().rate_share() * (self._own.later_rate if drops else 1.0)

    # ---------------------------------------------------------------- validation

    @torch.no_grad()
    def validate(self) -> Mapping[str, Any]:
        """Return the mean distance of what is matched, and what else is measured."""
        trained = self._trained.eval()
        sums: dict[str, float] = {}
        count = min(_VALIDATED, len(self.held_out.pictures))
        for number in range(count):
            for name, value in self._measured(trained, number).items():
                sums[name] = sums.get(name, 0.0) + value / count
        trained.train()
        return sums

    def _measured(self, trained: _Trained, number: int) -> dict[str, float]:
        original = self.held_out.original(number)
        [wanted] = self._wanted({f"held out {number}": original})
        point = self.training.points[0]
        if trained.network is None:
            latents = self.held_out.variant(number, point).condition.latents
            assert latents is not None
            given = torch.from_numpy(latents.values)[None].to(self.accelerator.device)
        else:
            given = self._pixels([original])
        states, out = trained(given)
        found, embedded = self._found(states)
        terms = {"distillation": float(self._distance(found, [wanted]))}
        if embedded is not None:
            [label] = self._labels(self.training.validation, [number])
            terms["accuracy"] = float(self._logits(embedded.float()).argmax() == label)
        if out:
            terms["bpp"] = float(estimated_bits(out["likelihoods"])) / given[0, 0].numel()
            terms["psnr"] = psnr(out["x_hat"].float(), given)
        return terms

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation."""
        trained = ", ".join(f"{name} {value:.4f}" for name, value in training.items())
        held_out = ", ".join(f"{name} {value:.4f}" for name, value in validation.items())
        return f"{trained}; held out: {held_out}"

    # ---------------------------------------------------------------- what comes of it

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights of the neck."""
        return self._trained.neck.state_dict()

    def about(self) -> Mapping[str, Any]:
        """Return what the adaptor needs to know."""
        options = self._own
        return {
            "neck": self._trained.neck.shape.described(),
            "entry": options.entry,
            "match": options.match,
            "phase": options.phase,
            "square": asdict(self.square),
            "layers": self._vision.layers,
            **({"points": [self._own_point()]} if options.phase != "d1" else {}),
        }

    def export(self, name: str = "") -> Trained:
        """Write the neck, as ``LEVEL.safetensors``, and behind d1 its codec's checkpoint."""
        name = name or f"{self._point.level}.safetensors"
        if self._own.phase == "d1":
            return super().export(name)
        if self.accelerator.is_main_process:
            self._write_codec()
        self.accelerator.wait_for_everyone()
        return Trained(super().export(name).checkpoint, {self._point.level: self._codec_path})

    @functools.cached_property
    def _codec_path(self) -> Path:
        return self.folder / "codec" / f"{self._point.level}.safetensors"

    def _write_codec(self) -> None:
        network = self._trained.network
        assert network is not None
        dtype = getattr(torch, self._own.weights)
        state = self._codec.official_state(network)
        about = {
            "codec": self._point.codec,
            "level": self._point.level,
            "config": dict(self._codec.network_config(read_checkpoint(self._codec.checkpoint))),
            "phase": self._own.phase,
            "multiplier": self._multiplier,
            "steps": self.step,
        }
        self._codec_path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._codec_path.with_suffix(".tmp")
        write_checkpoint(temporary, {n: each.to(dtype) for n, each in state.items()}, about)
        temporary.replace(self._codec_path)

    def _own_point(self) -> dict[str, Any]:
        """Return the codec that was trained, to which the neck belongs."""
        return {
            "codec": self._point.codec,
            "level": self._point.level,
            "key": "",
            "space": "",
            "parameters": dict(self._point.parameters),
            "provenance": {"checkpoint": file_hash(self._codec_path)},
        }


def _class_of(picture: TrainingPicture) -> str:
    return Path(picture.name).parent.name.replace("_", " ")


def _class_names(training: Training) -> list[str]:
    """Return the classes, which are the folders that pictures lie in.

    Raises:
        ConfigError: there is none, or but one; a picture of the validation is of no class.
    """
    found = sorted({_class_of(each) for each in training.pictures})
    if len(found) < 2 or not all(found):
        raise ConfigError(
            "training.classes: pictures must lie in folders that are named as their class, of"
            " which there are two or more; leave out classes.clip for distillation alone"
        )
    for each in training.validation:
        if _class_of(each) not in found:
            raise ConfigError(f"validation: {each.name} is in no folder of a class of the training")
    return found
