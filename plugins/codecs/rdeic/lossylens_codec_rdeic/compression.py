"""The network that codes RDEIC's latent: its compression module.

Li et al., "RDEIC: Accelerating Diffusion-Based Extreme Image Compression with Relay Residual
Diffusion", IEEE TCSVT, 2025.  Attributes have the names of the official checkpoints.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lossylens.errors import BitstreamError
from lossylens_toolkit.latent_diffusion.slices import (
    Doubling,
    Halving,
    SlicedNetwork,
    convolution,
)
from lossylens_toolkit.neural_codec.compressai import CompressionModel
from torch import Tensor, nn
from torch.nn import functional

#: Distances to the codebook that are held at once.
_DISTANCES = 2**24


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs)
        self.conv2 = convolution(outputs, outputs)
        self.adaptor = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, outputs, H, W)``."""
        out = self.conv2(functional.leaky_relu(self.conv1(x), 0.01))
        skip = x if self.adaptor is None else self.adaptor(x)
        return functional.leaky_relu(out, 0.01) + skip


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(channels, channels) for _ in range(count)]


class Encoder(nn.Module):
    """From the VAE's features to y, at half their size."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.g_a = nn.Sequential(
            ResidualBlock(inputs, width),
            *_blocks(width, 3),
            Halving(width, width),
            *_blocks(width, 3),
            convolution(width, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return self.g_a(x)


class HyperEncoder(nn.Module):
    """From y to z, at a quarter of its size, before quantisation."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.hyper_enc = nn.Sequential(
            ResidualBlock(inputs, width),
            *_blocks(width, 1),
            Halving(width, width),
            Halving(width, width),
        )

    def forward(self, y: Tensor) -> Tensor:
        """Return z."""
        return self.hyper_enc(y)


class HyperDecoder(nn.Module):
    """From quantised z to the side parameters of y."""

    def __init__(self, width: int, latents: int) -> None:
        super().__init__()
        self.hyper_dec = nn.Sequential(
            Doubling(width, latents),
            Doubling(latents, latents),
            ResidualBlock(latents, latents * 3 // 2),
            ResidualBlock(latents * 3 // 2, latents * 2),
        )

    def forward(self, z_hat: Tensor) -> Tensor:
        """Return twice as many channels as y has, in the size of y."""
        return self.hyper_dec(z_hat)


class Decoder(nn.Module):
    """From y to the hint, at twice its size."""

    def __init__(self, latents: int, width: int) -> None:
        super().__init__()
        self.g_s = nn.Sequential(
            convolution(latents, width),
            *_blocks(width, 3),
            Doubling(width, width),
            *_blocks(width, 4),
        )

    def forward(self, y_hat: Tensor) -> Tensor:
        """Return the hint."""
        return self.g_s(y_hat)


class Codebook(nn.Module):
    """A vector quantiser, whose indexes are coded with the same number of bits each."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, channels)

    @property
    def bits(self) -> int:
        """Of an index."""
        return max(1, (self.embedding.num_embeddings - 1).bit_length())

    @property
    def checksum(self) -> int:
        """CRC-32 of the entries, in float32, computed when it is first needed."""
        if self._checksum is None:
            entries = self.embedding.weight.detach().float().cpu()
            self._checksum = zlib.crc32(entries.contiguous().numpy().tobytes())
        return self._checksum

    _checksum: int | None = None

    def update(self) -> None:
        """Forget the checksum; to be called when the entries have changed."""
        self._checksum = None

    def nearest(self, z: Tensor) -> Tensor:
        """Return the index of the entry nearest to each vector of ``(1, C, h, w)``, flat.

        Of several equally near, the first.
        """
        vectors, entries = z.permute(0, 2, 3, 1).flatten(0, 2), self.embedding.weight.to(z.dtype)
        norms = entries.square().sum(1)
        step = max(1, _DISTANCES // len(entries))
        parts = [
            (part.square().sum(1, keepdim=True) + norms - 2 * part @ entries.T).argmin(1)
            for part in vectors.split(step)
        ]
        return torch.cat(parts)

    def entries(self, indexes: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the entries as ``(1, C, h, w)``."""
        return self.embedding(indexes).reshape(1, *shape, -1).permute(0, 3, 1, 2).contiguous()

    def pack(self, indexes: Tensor) -> bytes:
        """Return *indexes* in as many bits as they need, the highest first."""
        places = np.arange(self.bits)[::-1]
        return np.packbits(indexes.cpu().numpy()[:, None] >> places & 1).tobytes()

    def unpack(self, string: bytes, count: int) -> Tensor:
        """Return *count* indexes.

        Raises:
            BitstreamError: the string is of another length, or an index is too large.
        """
        bits = np.unpackbits(np.frombuffer(string, dtype=np.uint8))
        used, spare = bits[: count * self.bits], bits[count * self.bits :]
        if len(used) < count * self.bits or len(spare) >= 8 or spare.any():
            raise BitstreamError("damaged: the string of indexes has not the length it must have")
        indexes = used.reshape(count, self.bits).astype(np.int64) @ (
            1 << np.arange(self.bits)[::-1]
        )
        if count and indexes.max() >= self.embedding.num_embeddings:
            raise BitstreamError("damaged: an index is not in the codebook")
        return torch.from_numpy(indexes)


class Compression(SlicedNetwork):
    """The compression module.

    Args:
        in_nc: channels of the VAE's last features.
        out_nc: channels of the latent.
        N: channels of the transforms and of z.
        M: channels of y.
        slices: channels of each slice of y.
        codebook_size: entries of the codebook.
    """

    #: Of the VAE's features, as y and z are of pictures.
    stride = 16
    hyper_stride = 64

    def __init__(
        self,
        in_nc: int,
        out_nc: int,
        N: int,  # noqa: N803
        M: int,  # noqa: N803
        slices: Sequence[int],
        codebook_size: int,
    ) -> None:
        CompressionModel.__init__(self)
        self.encoder = Encoder(in_nc, N, M)
        self.hyper_enc = HyperEncoder(M, N)
        self.hyper_dec = HyperDecoder(N, M)
        self.decoder = Decoder(M, N)
        self.out = convolution(N, out_nc)
        self.add_contexts(slices, 2 * M)
        self.quantize = Codebook(codebook_size, N)

    def analysis(self, *inputs: Tensor) -> Tensor:
        """See the base.

        Args:
            inputs: the scaled features of the VAE's encoder before its last convolution,
                ``(B, 512, H/8, W/8)``, for pictures whose sides are multiples of 64.
        """
        (features,) = inputs
        return self.encoder(features)

    def hyper_analysis(self, y: Tensor, *guides: Tensor) -> Tensor:
        """See the base."""
        return self.hyper_enc(y)

    def quantised_hyper(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See the base; indexes have no probabilities."""
        entries = [self._entries(self.quantize.nearest(each), each) for each in z.split(1)]
        z_hat = torch.cat(entries)
        return (z + (z_hat - z).detach()).to(self._dtype) if z.requires_grad else z_hat, {}

    def encode_hyper(self, z: Tensor) -> tuple[bytes, Tensor]:
        """See the base."""
        indexes = self.quantize.nearest(z)
        return self.quantize.pack(indexes), self._entries(indexes, z)

    def decode_hyper(self, string: bytes, shape: tuple[int, int]) -> Tensor:
        """See the base."""
        weight = self.quantize.embedding.weight
        indexes = self.quantize.unpack(string, shape[0] * shape[1]).to(weight.device)
        return self.quantize.entries(indexes, shape).to(self._dtype)

    def _entries(self, indexes: Tensor, z: Tensor) -> Tensor:
        height, width = z.shape[-2:]
        return self.quantize.entries(indexes, (height, width)).to(self._dtype)

    @property
    def tables(self) -> Any:
        """The codebook, in the place of the tables of z."""
        return self.quantize

    def update(
        self, scale_table: Any = None, force: bool = False, update_quantiles: bool = False
    ) -> bool:
        """See the base."""
        self.quantize.update()
        return super().update(scale_table, force)

    def reconstruct(self, y_hat: Tensor, z_hat: Tensor) -> dict[str, Tensor]:
        """Return ``c_latent``, the scaled latent as far as it was coded, and ``guide_hint``.

        They are ``(B, 4, H/8, W/8)`` and ``(B, N, H/8, W/8)``.
        """
        hint = self.decoder(y_hat.to(self._transform_dtype))
        return {"c_latent": self.out(hint), "guide_hint": hint}
