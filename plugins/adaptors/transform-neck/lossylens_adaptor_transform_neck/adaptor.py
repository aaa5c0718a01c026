"""The adaptor: latents in, hidden states of a layer out, and the rest of the encoder as it is."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from lossylens.adaptor import Adaptor, Needs
from lossylens.codec import SOURCE, CodecPoint
from lossylens.errors import ConfigError
from lossylens.vlm import Condition, VisionAccess, VisionEncoder, VlmIdentity
from lossylens_toolkit.neural_codec.checkpoints import file_hash
from torch import Tensor

from lossylens_adaptor_transform_neck.hosts import layout_of
from lossylens_adaptor_transform_neck.neck import TransformNeck
from lossylens_adaptor_transform_neck.neck_file import NeckFile, read_neck
from lossylens_adaptor_transform_neck.options import NeckOptions
from lossylens_adaptor_transform_neck.placing import decoded_on_patches
from lossylens_adaptor_transform_neck.trained_for import unserved


class NeckAdaptor(Adaptor):
    """See the module."""

    needs = Needs.LATENTS

    def __init__(self, options: NeckOptions) -> None:
        super().__init__(options)
        self.options: NeckOptions = options

    @cached_property
    def files(self) -> Sequence[NeckFile]:
        """The necks.

        Raises:
            ConfigError: a file holds none.
        """
        return [read_neck(path) for path in self.options.files()]

    def provenance(self) -> Mapping[str, str]:
        """Return the hashes of the necks."""
        return {f"neck {each.path.name}": file_hash(each.path) for each in self.files}

    def fits(self, vlm: VlmIdentity, point: CodecPoint) -> str:
        """Return why no neck serves *vlm* behind *point*, or ``""``.

        A neck was trained on the latents of one checkpoint of one codec, on squares of one
        size, for the vision encoder of one VLM.
        """
        if reason := unserved(self.files, vlm, point):
            return reason
        if self.options.latents == "wrong" and self._of_another(point) is None:
            return "latents: wrong needs the neck of another level of the same shape"
        return ""

    def is_seen(self, vlm: VlmIdentity, point: CodecPoint) -> bool:
        """Whether the neck's training had this codec at this level: it serves no other."""
        return True

    def remark(self, vlm: VlmIdentity) -> str:
        """Return that the authors' files do not say which encoder they are for."""
        if any(each.official for each in self.files):
            return "the authors' necks do not say for which weights of the encoder they are"
        return ""

    def _neck_at(self, point: CodecPoint) -> NeckFile:
        own = next(each for each in self.files if not each.unfit_behind(point))
        if self.options.latents != "wrong":
            return own
        other = self._of_another(point)
        assert other is not None
        return other

    def _of_another(self, point: CodecPoint) -> NeckFile | None:
        """Return the neck that follows the one for *point* among those of its shape."""
        place = next(n for n, each in enumerate(self.files) if not each.unfit_behind(point))
        own, rest = self.files[place], [*self.files[place + 1 :], *self.files[:place]]
        alike = (each for each in rest if (each.shape, each.entry) == (own.shape, own.entry))
        return next(alike, None)

    def encoder(self, vision: VisionAccess) -> VisionEncoder:
        """Return what encodes latents.

        Raises:
            ConfigError: the encoder is of another width, has no such layer, or other patches.
        """
        device = next(iter(vision.parameters().values())).device
        necks: dict[str, TransformNeck] = {}

        def neck_of(file: NeckFile) -> TransformNeck:
            key = str(file.path)
            if key not in necks:
                check_host(vision, file)
                necks[key] = file.load().to(device)
            return necks[key]

        def encode(pictures: Sequence[Any], conditions: Sequence[Condition]) -> Sequence[Any]:
            found: dict[int, Any] = {}
            groups: dict[NeckFile, list[int]] = {}
            plain = [place for place, each in enumerate(conditions) if each.point == SOURCE]
            if plain:
                shown = vision.encode([pictures[place] for place in plain])
                found.update(zip(plain, shown, strict=True))
            for place, condition in enumerate(conditions):
                if place not in found:
                    groups.setdefault(self._neck_at(condition.point), []).append(place)
            for file, places in groups.items():
                mine = [conditions[place] for place in places]
                encoded = self._encoded(vision, file, neck_of(file), mine, device)
                found.update(zip(places, encoded, strict=True))
            return [found[place] for place in range(len(conditions))]

        return encode

    @torch.no_grad()
    def _encoded(
        self,
        vision: VisionAccess,
        file: NeckFile,
        neck: TransformNeck,
        conditions: Sequence[Condition],
        device: torch.device,
    ) -> Sequence[Any]:
        latents = torch.stack([self._latents(file, each) for each in conditions]).to(device)
        dtype = next(iter(vision.parameters().values())).dtype
        states = [each[None] for each in neck(latents).to(dtype)]
        layouts = [
            layout_of(vision, file.shape.rows, each.point.square, each.size) for each in conditions
        ]
        return vision.enter(file.entry, states, layouts)

    def _latents(self, file: NeckFile, condition: Condition) -> Tensor:
        if condition.latents is None:
            raise ConfigError("an image that is not compressed has no latents for the neck")
        channels = file.shape.channels
        values = decoded_on_patches(condition.latents, file.shape.rows)
        if len(values) != channels:
            raise ConfigError(f"the latents have {len(values)} channels, and the neck {channels}")
        if self.options.latents == "other":
            others = file.others()
            return others[zlib.crc32(values.numpy().tobytes()) % len(others)]
        if self.options.latents == "none":
            return torch.zeros_like(values)
        if self.options.latents != "shuffled":
            return values
        order = torch.randperm(values[0].numel(), generator=torch.Generator().manual_seed(0))
        return values.flatten(1)[:, order].view(values.shape)


def check_host(vision: VisionAccess, file: NeckFile) -> None:
    """Make sure that a neck's states can enter an encoder.

    Raises:
        ConfigError: they cannot.
    """
    shape, layout = file.shape, layout_of(vision, file.shape.rows, file.square, (1, 1))
    if shape.width != vision.width or shape.extra != layout.extra:
        raise ConfigError(
            f"{file.path}: its states are {shape.width} wide with {shape.extra} class tokens;"
            f" the encoder's are {vision.width} wide with {layout.extra}"
        )
    if file.entry > vision.layers:
        raise ConfigError(
            f"{file.path}: it enters at layer {file.entry} of {vision.layers} of the encoder"
        )
