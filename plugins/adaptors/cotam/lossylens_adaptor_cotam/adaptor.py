"""The adaptor: the decoded picture's tokens, plus what the adapter makes of the latents."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lossylens.adaptor import Adaptor, Needs
from lossylens.codec import CodecPoint, Latents
from lossylens.errors import ConfigError
from lossylens.images.pixels import coded_size
from lossylens.vlm import Condition, VisionAccess, VisionEncoder, VlmIdentity
from lossylens_toolkit.neural_codec.checkpoints import Checkpoint, file_hash, read_checkpoint
from lossylens_toolkit.training.adaptor_training import check_header, has_seen
from torch import Tensor, nn

from lossylens_adaptor_cotam.network import LatentFeatureAdapter, at_patches
from lossylens_adaptor_cotam.options import CotamAdaptorOptions

METHOD = "cotam"

#: Prefixes of a checkpoint's tensors: the adapter, and latents of other pictures for the control.
ADAPTER, OTHERS = "adapter.", "others."


class LatentFeatureAdaptor(Adaptor):
    """See the module.

    Raises:
        ConfigError: the checkpoint cannot be read, or is of another method.
    """

    def __init__(self, options: CotamAdaptorOptions) -> None:
        super().__init__(options)
        self.options: CotamAdaptorOptions = options

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Pixels and latents, or latents alone where the training used no decoded picture."""
        return needs_of(bool(self._about.get("reconstruction", True)))

    def provenance(self) -> Mapping[str, str]:
        """Return the checkpoint's hash."""
        return {f"checkpoint {self.options.path.name}": file_hash(self.options.path)}

    def fits(self, vlm: VlmIdentity, point: CodecPoint) -> str:
        """Return why the checkpoint does not serve *vlm* behind *point*, or ``""``.

        It serves the codec checkpoint that it was trained with, at all of its levels.
        """
        reason = check_header(self._about, METHOD, vlm, self.options.path)
        if reason:
            return reason
        codec = self._about["codec"]
        # A codec that was trained with the adapter is told by its hash alone.
        if codec["space"] and point.space != codec["space"]:
            return f"{self.options.path} is for latents of {codec['space']}, not {point.space}"
        if point.provenance.get("checkpoint") != codec["checkpoint"]:
            return f"{self.options.path} was trained with another checkpoint of {point.space}"
        return ""

    def is_seen(self, vlm: VlmIdentity, point: CodecPoint) -> bool:
        """Whether the training had the codec at this level."""
        return has_seen(self._about, point)

    def remark(self, vlm: VlmIdentity) -> str:
        """Say so where the checkpoint is a control."""
        latents = self._about.get("latents", "own")
        return {
            "other": "a control: the adapter gets latents of other pictures",
            "none": "a control: the adapter gets no latents and is a learned shift",
        }.get(latents, "")

    def encoder(self, vision: VisionAccess) -> VisionEncoder:
        """Return the encoder with the adapter before its first layer.

        Raises:
            ConfigError: the checkpoint is of an encoder of another width.
        """
        adapted = AdaptedEncoder.read(vision, self._checkpoint)

        def encode(pictures: Sequence[Any], conditions: Sequence[Condition]) -> Sequence[Any]:
            with torch.no_grad():
                states, layouts = adapted.states(pictures, conditions)
                return vision.enter(adapted.layer, states, layouts)

        return encode

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return read_checkpoint(self.options.path)

    @property
    def _about(self) -> Mapping[str, Any]:
        about = self._checkpoint.about
        if about.get("method") != METHOD:
            raise ConfigError(f"{self.options.path} is no checkpoint of {METHOD}")
        return about


def needs_of(reconstruction: bool) -> Needs:
    """Return what is taken of a compressed image, with and without the decoded picture."""
    return Needs.PIXELS | Needs.LATENTS if reconstruction else Needs.LATENTS


@dataclass(frozen=True)
class OtherPicture:
    """Latents that the control is given in the place of a picture's own.

    Attributes:
        latents: of a picture of the training.
        size: its width and height.
        level: at which it was coded.
    """

    latents: Latents
    size: tuple[int, int]
    level: str


class AdaptedEncoder:
    """A VLM's vision encoder, and the adapter whose deltas enter it.

    Args:
        vision: of the VLM, frozen.
        adapter: of deltas.
        reconstruction: whether they are added to the tokens of the decoded picture, or stand
            for them.
        layer: whose input they make.
        latents: ``own``, ``other`` or ``none``; see the options of the training.
        others: other pictures, for ``other``.
    """

    def __init__(
        self,
        vision: VisionAccess,
        adapter: LatentFeatureAdapter,
        *,
        reconstruction: bool,
        layer: int,
        latents: str,
        others: Sequence[OtherPicture] = (),
    ) -> None:
        self.vision, self.adapter = vision, adapter
        self.reconstruction, self.layer = reconstruction, layer
        self.latents, self.others = latents, others

    @classmethod
    def read(cls, vision: VisionAccess, checkpoint: Checkpoint) -> AdaptedEncoder:
        """Return what a checkpoint holds.

        Raises:
            ConfigError: it is of an encoder of another width.
        """
        about = checkpoint.about
        described = about["adapter"]
        if described["width"] != vision.width:
            raise ConfigError(
                f"cotam: the checkpoint is for an encoder of width {described['width']}, and this"
                f" has {vision.width}"
            )
        adapter = LatentFeatureAdapter(**described)
        state = checkpoint.state
        load = {n.removeprefix(ADAPTER): v.float() for n, v in state.items() if ADAPTER in n}
        adapter.load_state_dict(load)
        device = next(iter(vision.parameters().values())).device
        others = [
            OtherPicture(
                Latents(
                    state[f"{OTHERS}{number}"].float().numpy(),
                    "",
                    about["stride"],
                    tuple(other["offset"]),
                ),
                tuple(other["size"]),
                other["level"],
            )
            for number, other in enumerate(about.get("others", ()))
        ]
        return cls(
            vision,
            adapter.to(device).eval().requires_grad_(False),
            reconstruction=about["reconstruction"],
            layer=about["layer"],
            latents=about["latents"],
            others=others,
        )

    def states(
        self,
        pictures: Sequence[Any],
        conditions: Sequence[Condition],
        adapter: nn.Module | None = None,
    ) -> tuple[list[Tensor], list[Any]]:
        """Return the input of :attr:`layer` and the layouts, per image.

        Args:
            pictures: preprocessed decoded pictures; None each without reconstruction.
            conditions: with the latents.  An image that has none keeps its tokens.
            adapter: in place of the encoder's own, for data parallelism.
        """
        layouts = [
            self.vision.layout(_coded(condition)) if picture is None else picture.layout
            for picture, condition in zip(pictures, conditions, strict=True)
        ]
        plain: Sequence[Tensor] | None = None
        if self.reconstruction:
            plain = self.vision.hidden_states(pictures, {self.layer})[self.layer]
        states = []
        for number, (condition, layout) in enumerate(zip(conditions, layouts, strict=True)):
            if condition.latents is None and plain is not None:
                states.append(plain[number])
                continue
            deltas = (adapter or self.adapter)(self._placed(condition, layout))
            states.append(deltas if plain is None else plain[number] + deltas.to(plain[number]))
        return states, layouts

    def _other(self, own: Latents, level: str) -> tuple[Latents, tuple[int, int]]:
        """Return latents of another picture at the same level, or at any where it has none."""
        others = [each for each in self.others if each.level == level] or self.others
        number = zlib.crc32(own.values.tobytes())
        for place in (number, number + 1):  # the first may be the picture itself
            other = others[place % len(others)]
            if not np.array_equal(other.latents.values, own.values):
                break
        return other.latents, other.size

    def _placed(self, condition: Condition, layout: Any) -> Tensor:
        """Return the latents at the patches of an image's tiles."""
        found, size = condition.latents, _coded(condition)
        assert found is not None
        if self.latents == "other":
            found, size = self._other(found, condition.point.level)
        placed = at_patches(
            torch.from_numpy(found.values),
            found.stride,
            size,
            layout.rectangles,
            layout.rows,
            layout.columns,
            found.offset,
        )
        device = next(self.adapter.parameters()).device
        return (placed * 0 if self.latents == "none" else placed).to(device)


def _coded(condition: Condition) -> tuple[int, int]:
    """Return width and height of the picture that was coded, of which the latents are."""
    return coded_size(condition.size, condition.point.square)
