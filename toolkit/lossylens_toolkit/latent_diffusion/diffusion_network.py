"""Forward, compress and decompress of the networks that code a latent of a diffusion model.

They differ from other networks with a hyperprior in what goes in, a picture and what guides
the coding of it, and in what comes out, which is no picture but what a diffusion model
makes one of.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossylens_toolkit.neural_codec.coding import (
    Decoder,
    Encoder,
    Likelihoods,
    decode_bottleneck,
    encode_bottleneck,
)
from lossylens_toolkit.neural_codec.compressai import quantize_ste
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork, reproducible
from lossylens_toolkit.neural_codec.winograd import Winograd


class GuidedNetwork(HyperpriorNetwork):
    """A codec whose encoder takes several tensors and whose decoder returns several.

    Subclasses define the methods below, and those of :class:`HyperpriorNetwork` that say
    how the latents are walked through.
    """

    @abstractmethod
    def analysis(self, *inputs: Tensor) -> Tensor:
        """Return the latents y of what :meth:`forward` takes."""

    @abstractmethod
    def hyper_analysis(self, y: Tensor, *guides: Tensor) -> Tensor:
        """Return the hyper latents z; *guides* are the inputs but the first."""

    @abstractmethod
    def reconstruct(self, y_hat: Tensor, z_hat: Tensor) -> dict[str, Tensor]:
        """Return what the diffusion model takes, by name, in the type of the transforms."""

    def encode_hyper(self, z: Tensor) -> tuple[bytes, Tensor]:
        """Return the string of z ``(1, N, h, w)`` and what the decoder finds in it."""
        return encode_bottleneck(z.to(self._dtype), self._medians, self.tables)

    def decode_hyper(self, string: bytes, shape: tuple[int, int]) -> Tensor:
        """Undo :meth:`encode_hyper`; *shape* is height and width of z.

        Raises:
            BitstreamError: the string is damaged.
        """
        return decode_bottleneck(string, shape, self._medians, self.tables)

    def quantised_hyper(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return quantised z for :meth:`forward`, and its likelihoods under the key ``z``."""
        _, likelihoods = self.bottleneck(z)
        medians = self._medians
        return quantize_ste(z.to(self._dtype) - medians) + medians, {"z": likelihoods}

    def forward(self, *inputs: Tensor) -> dict[str, Any]:
        """Return what :meth:`reconstruct` does, and latents and ``likelihoods``.

        Args:
            inputs: as :meth:`analysis` takes them; see the subclass.
        """
        y, z = self._latents(inputs)
        with torch.autocast(y.device.type, enabled=False):
            z_hat, z_likelihoods = self.quantised_hyper(z)
            coder = Likelihoods(self.gaussian)
            with Winograd():
                y_hat = self.walk(self.hyper_synthesis(z_hat), y.to(self._dtype), coder)
        likelihoods = {"y": self.in_channel_order(coder.segments), **z_likelihoods}
        latents = {"y": y, "z": z, "y_hat": y_hat, "z_hat": z_hat}
        return {**self.reconstruct(y_hat, z_hat), **latents, "likelihoods": likelihoods}

    @torch.no_grad()
    def compress(self, *inputs: Tensor) -> dict[str, Any]:
        """Return the strings of what :meth:`forward` takes; see the base."""
        y, z = self._latents(inputs)
        strings: tuple[list[bytes], list[bytes]] = ([], [])
        checksums = []
        for y_i, z_i in zip(y.split(1), z.split(1), strict=True):
            z_string, z_hat = self.encode_hyper(z_i)
            coder = Encoder()
            with reproducible(y.device), Winograd():
                self.walk(self.hyper_synthesis(z_hat), y_i, coder)
            strings[0].append(coder.finish())
            strings[1].append(z_string)
            checksums.append(coder.checksum)
        return {"strings": list(strings), "shape": tuple(z.shape[-2:]), "checksums": checksums}

    @torch.no_grad()
    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: tuple[int, int]
    ) -> dict[str, Any]:
        """Return what :meth:`reconstruct` does, ``y_hat`` and ``checksums``; see the base."""
        y_hat, checksums = self.decode_latents(strings, shape)
        z_hat = torch.cat([self.decode_hyper(string, shape) for string in strings[1]])
        return {**self.reconstruct(y_hat, z_hat), "y_hat": y_hat, "checksums": checksums}

    @torch.no_grad()
    def decode_latents(
        self, strings: Sequence[Sequence[bytes]], shape: tuple[int, int]
    ) -> tuple[Tensor, list[int]]:
        """See the base."""
        height, width = (side * self.hyper_stride // self.stride for side in shape)
        latents, checksums = [], []
        for y_string, z_string in zip(*strings, strict=True):
            z_hat = self.decode_hyper(z_string, shape)
            coder = Decoder(y_string, self.latent_channels * height * width)
            with reproducible(z_hat.device), Winograd():
                latents.append(self.walk(self.hyper_synthesis(z_hat), None, coder))
            checksums.append(coder.checksum)
        return torch.cat(latents), checksums

    def synthesize(self, y_hat: Tensor) -> Tensor:
        """Raise: it takes a diffusion model to make a picture."""
        raise NotImplementedError("latents of a diffusion model's codec are no picture")

    def _latents(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return y and z."""
        inputs = [each.to(self._transform_dtype) for each in inputs]
        y = self.analysis(*inputs).to(self._transform_dtype)
        # What probabilities depend on is never in less than full precision.
        with torch.autocast(y.device.type, enabled=False):
            return y, self.hyper_analysis(y, *inputs[1:])

    @property
    def _transform_dtype(self) -> torch.dtype:
        return next(self.synthesis.parameters()).dtype

    @property
    @abstractmethod
    def synthesis(self) -> nn.Module:
        """The decoder's transform, which has the type of all transforms."""
