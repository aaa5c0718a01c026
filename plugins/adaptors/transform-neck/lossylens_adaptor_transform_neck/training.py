"""Training: what the encoder makes of latents is drawn to what it makes of the picture.

Phase 1 (``d1``) trains the neck for a frozen codec.  In phase 2 the codec is trained too, for
rate, pictures and features (``d2``) or rate and features (``d3``); what comes of it is a codec
of its own, to which the neck belongs.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens.adaptor import Needs, Trained, Trainer, Training
from lossylens.errors import ConfigError
from lossylens.images.pixels import squared
from lossylens.vlm import VisionAccess
from lossylens_toolkit.neural_codec.checkpoints import file_hash, read_checkpoint
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.neural_codec.variable_rate import VariableRateCodec
from lossylens_toolkit.training.joint_codec import (
    AUXILIARY_WEIGHT,
    network_to_train,
    parameter_groups,
    write_codec,
)
from lossylens_toolkit.training.objective import estimated_bits, psnr
from lossylens_toolkit.training.pairs import Variant
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from lossylens_adaptor_transform_neck.feature_training import FeatureTraining, Hidden
from lossylens_adaptor_transform_neck.neck import NeckShape, TransformNeck
from lossylens_adaptor_transform_neck.neck_file import METHOD, OTHERS, read_neck
from lossylens_adaptor_transform_neck.options import NeckTrainingOptions
from lossylens_adaptor_transform_neck.placing import STRIDE, decoded_on_patches, on_patches

#: Pictures whose latents a checkpoint holds.
_OTHERS = 16

#: Options without which it would be another training.
_IDENTITY = ("phase", "entry", "blocks", "hidden")

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

    def __init__(
        self, neck: TransformNeck, network: HyperpriorNetwork | None, padding: Padding | None
    ) -> None:
        super().__init__()
        self.neck, self.network, self._padding = neck, network, padding

    def forward(self, given: Tensor) -> tuple[Tensor, Mapping[str, Any]]:
        """Return hidden states, and what the network has made of pictures.

        Args:
            given: latents, or pictures where there is a network.
        """
        if self.network is None:
            return self.neck(given), {}
        out = {**self.coded(given), "auxiliary": self.network.aux_loss()}
        return self.neck(out["y_hat"]), out

    def coded(self, pictures: Tensor) -> Mapping[str, Any]:
        """Return what the network makes of squares, without what is of their padding."""
        assert self.network is not None
        assert self._padding is not None
        out = self.network(self._padding.pad(pictures))
        side, stride = pictures.shape[-1], self.network.stride
        offset = self._padding.offset(side, side)
        return {
            **out,
            "x_hat": self._padding.crop(out["x_hat"], side, side),
            "y_hat": on_patches(out["y_hat"], stride, offset, self.neck.shape.rows),
        }


class NeckTraining(FeatureTraining):
    """One training.

    Raises:
        ConfigError: as the base, or the codec has no latents; the neck to start from is another
            codec's.
    """

    def __init__(self, training: Training, options: NeckTrainingOptions) -> None:
        if any(not each.point.space for each in training.points):
            raise ConfigError("codecs: a neck is for a codec with latents")
        own = {
            **{name: getattr(options, name) for name in _IDENTITY},
            "start": file_hash(options.start) if options.start else "",
            "joint": asdict(options.joint),
        }
        super().__init__(METHOD, training, options, own, Needs.LATENTS)
        self._own = options
        if options.entry > self.vision.layers:
            raise ConfigError(f"training.entry: the encoder has {self.vision.layers} layers")
        network, padding, self._multiplier = None, None, 0.0
        if options.phase != "d1":
            # What makes pictures of latents is of no use in d3.
            network = network_to_train(self._codec, ("g_s.",) if options.phase == "d3" else ())
            padding = self._codec.padding
            self._multiplier = self._find_multiplier()
        neck = self._begin(self.square.side // STRIDE)
        self.prepare(_Trained(neck, network, padding), list(self._groups(neck, network)))

    # ---------------------------------------------------------------- what is trained

    def _begin(self, rows: int) -> TransformNeck:
        if self._own.start is not None:
            return self._started(self._own.start, rows)
        width = self.vision.width
        try:
            shape = NeckShape(
                channels=self._channels(rows),
                width=width,
                rows=rows,
                columns=rows,
                extra=self.layout.extra,
                blocks=self._own.blocks,
                heads=max(1, width // 64),
                hidden=self._own.hidden or 4 * width,
            )
        except ValueError as error:
            raise ConfigError(f"training: no such neck: {error}") from error
        return TransformNeck(shape)

    def _channels(self, rows: int) -> int:
        """Return the number of the latents' channels.

        Raises:
            ConfigError: they do not lie on patches.
        """
        latents = self.coded.variant(0, self.training.points[0]).condition.latents
        assert latents is not None
        return len(decoded_on_patches(latents, rows))

    def _started(self, start: Path, rows: int) -> TransformNeck:
        """Return the neck to begin with.

        Raises:
            ConfigError: it enters at another layer or takes other latents, or, in phase 2, is
                not that of the codec.
        """
        file, own = read_neck(start), self._own
        reason = ""
        encoder = (rows, self.vision.width, self.layout.extra)
        if file.entry != own.entry:
            reason = f"enters at layer {file.entry}, not at training.entry, {own.entry}"
        elif (file.shape.rows, file.shape.width, file.shape.extra) != encoder:
            reason = "is for another vision encoder or square"
        elif file.shape.channels != (channels := self._channels(rows)):
            reason = f"takes latents of {file.shape.channels} channels, not of {channels}"
        elif file.shape.blocks != own.blocks:
            reason = f"has {file.shape.blocks} blocks, not training.blocks, {own.blocks}"
        elif own.hidden not in (None, file.shape.hidden):
            reason = f"is {file.shape.hidden} wide inside, not training.hidden, {own.hidden}"
        elif own.phase != "d1":
            reason = file.unfit(self.training.identity, self.point)
        if reason:
            raise ConfigError(f"training.start: {start}: {reason}")
        return file.load().requires_grad_(True)

    @functools.cached_property
    def _codec(self) -> NeuralCodec:
        """The codec that is trained."""
        codec = self.training.points[0].build()
        if not isinstance(codec, NeuralCodec):
            raise ConfigError(
                f"training.phase: codec {self.point.codec} has no network of lossylens's to train"
            )
        if isinstance(codec, VariableRateCodec):
            raise ConfigError(
                f"training.phase: codec {self.point.codec} has one network for all its levels;"
                " d2 and d3 train one of a single level"
            )
        return codec

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
        joint, rate = self._own.joint, self._own.learning_rate
        return [
            *groups,
            *parameter_groups(network, share=joint.codec_rate, learning_rate=rate),
        ]

    @property
    def _trained(self) -> _Trained:
        trained: _Trained = self.accelerator.unwrap_model(self.module)
        return trained

    # ---------------------------------------------------------------- loss

    def given(self, originals: Sequence[Any], variants: Sequence[Variant]) -> Tensor:
        """Return latents, or pictures where the codec is trained too."""
        if self._own.phase != "d1":
            return self._pixels(originals)
        found, rows = [], self.square.side // STRIDE
        for each in variants:
            latents = each.condition.latents
            assert latents is not None
            found.append(decoded_on_patches(latents, rows))
        return torch.stack(found).to(self.accelerator.device)

    def hidden(self, made: Tensor) -> Hidden:
        """Return how a tower goes on from the neck's states."""
        dtype = next(iter(self.vision.parameters().values())).dtype
        entered = [each[None].to(dtype) for each in made]
        layouts = [self.layout] * len(entered)

        def passed(tower: VisionAccess, layers: Collection[int]) -> Mapping[int, Sequence[Tensor]]:
            return tower.hidden_states_from(self._own.entry, entered, layouts, layers)

        return passed

    def terms_of_codec(self, given: Tensor, out: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return rate and, in d2, distortion."""
        if not out:
            return {}
        pixels = given.shape[0] * given.shape[-1] * given.shape[-2]
        terms = {"bpp": estimated_bits(out["likelihoods"]) / pixels}
        if self._own.phase == "d2":
            terms["mse"] = mse_loss(out["x_hat"].float(), given)
        return terms

    def total(self, terms: Mapping[str, Tensor], out: Mapping[str, Any]) -> Tensor:
        """Return the staged loss in d1, else rate and distortions."""
        if not out:
            return super().total(terms, out)
        distortion = self._own.joint.delta * terms["distillation"]
        if "mse" in terms:
            distortion = distortion + self._own.joint.gamma * terms["mse"]
        # No parameter of the auxiliary loss is in the other.
        auxiliary = AUXILIARY_WEIGHT * out["auxiliary"]
        return terms["bpp"] + self._multiplier * distortion + auxiliary

    @property
    def is_staged(self) -> bool:
        """Whether this is phase 1, with classes."""
        return super().is_staged and self._own.phase == "d1"

    def _pixels(self, originals: Sequence[Any]) -> Tensor:
        """Return what is coded, ``(B, 3, side, side)`` in 0..1."""
        found = [torch.from_numpy(np.array(squared(each, self.square))) for each in originals]
        return torch.stack(found).to(self.accelerator.device).permute(0, 3, 1, 2).float() / 255

    def measures_of_codec(self, given: Tensor, out: Mapping[str, Any]) -> Mapping[str, float]:
        """Return rate, estimated and per pixel of the square, and PSNR."""
        if not out:
            return {}
        return {
            "bpp": float(estimated_bits(out["likelihoods"])) / given[0, 0].numel(),
            "psnr": psnr(out["x_hat"].float(), given),
        }

    # ---------------------------------------------------------------- what comes of it

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights of the neck, and latents of some pictures for a control."""
        return {**self._trained.neck.state_dict(), OTHERS: self._others()}

    @torch.no_grad()
    def _others(self) -> Tensor:
        """Return latents of the first pictures, as the codec makes them now."""
        numbers = range(min(_OTHERS, len(self.training.pictures)))
        variants = [self.coded.variant(each, self.training.points[0]) for each in numbers]
        given = self.given([self.coded.original(each) for each in numbers], variants)
        trained = self._trained
        return given if trained.network is None else trained.coded(given)["y_hat"]

    def about(self) -> Mapping[str, Any]:
        """Return what the adaptor needs to know."""
        return {
            **super().about(),
            "neck": self._trained.neck.shape.described(),
            "entry": self._own.entry,
            "phase": self._own.phase,
            **({"points": [self._own_point()]} if self._own.phase != "d1" else {}),
        }

    def export(self, name: str = "") -> Trained:
        """Write the neck, and behind phase 1 the checkpoint of its codec first."""
        if self._own.phase == "d1":
            return super().export(name)
        if self.accelerator.is_main_process:
            self._write_codec()
        self.accelerator.wait_for_everyone()
        return Trained(super().export(name).checkpoint, {self.point.level: self._codec_path})

    @functools.cached_property
    def _codec_path(self) -> Path:
        return self.folder / "codec" / f"{self.point.level}.safetensors"

    def _write_codec(self) -> None:
        network = self._trained.network
        assert network is not None
        about = {
            "level": self.point.level,
            "phase": self._own.phase,
            "multiplier": self._multiplier,
            "steps": self.step,
        }
        dtype = getattr(torch, self._own.weights)
        write_codec(self._codec_path, self._codec, network, dtype, about)

    def _own_point(self) -> dict[str, Any]:
        """Return the codec that was trained, to which the neck belongs."""
        return {
            "codec": self.point.codec,
            "level": self.point.level,
            "key": "",
            "space": "",
            "parameters": dict(self.point.parameters),
            "provenance": {"checkpoint": file_hash(self._codec_path)},
        }
