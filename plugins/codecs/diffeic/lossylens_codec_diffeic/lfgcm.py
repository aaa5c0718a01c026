"""The network that codes DiffEIC's latent: its latent feature-guided compression module.

Li et al., "Toward Extreme Image Compression with Latent Feature Guidance and Diffusion
Prior", IEEE TCSVT 35(1), 2025.  Attributes have the names of the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lossylens_toolkit.latent_diffusion.slices import (
    Doubling,
    Halving,
    SlicedNetwork,
    convolution,
)
from lossylens_toolkit.neural_codec.compressai import CompressionModel, EntropyBottleneck
from torch import Tensor, nn
from torch.nn import functional

#: Channels inside a spatial feature transform, whatever the size of the network.
_SHARED = 128


class Bottleneck(nn.Module):
    """A residual bottleneck block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(channels, inside, 1),
            nn.GELU(),
            convolution(inside, inside),
            nn.GELU(),
            nn.Conv2d(inside, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        return x + self.branch(x)


class Modulation(nn.Module):
    """A spatial feature transform: *x* scaled and shifted by what a reference says."""

    def __init__(self, channels: int, reference: int, size: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(
            convolution(reference, _SHARED, size), nn.LeakyReLU(0.2, inplace=True)
        )
        self.mlp_gamma = convolution(_SHARED, channels, size)
        self.mlp_beta = convolution(_SHARED, channels, size)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*; *reference* has its height and width."""
        shared = self.mlp_shared(reference)
        return x * (1 + self.mlp_gamma(shared)) + self.mlp_beta(shared)


class ModulatedBlock(nn.Module):
    """A residual block of two modulated convolutions."""

    def __init__(self, channels: int, reference: int, size: int) -> None:
        super().__init__()
        self.conv_0 = convolution(channels, channels)
        self.conv_1 = convolution(channels, channels)
        self.norm_0 = Modulation(channels, reference, size)
        self.norm_1 = Modulation(channels, reference, size)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        out = self.conv_0(functional.leaky_relu(self.norm_0(x, reference), 0.2))
        return x + self.conv_1(functional.leaky_relu(self.norm_1(out, reference), 0.2))


def _reference(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    first = convolution(inputs, outputs, 3, stride)
    return nn.Sequential(first, nn.GELU(), nn.Conv2d(outputs, outputs, 1))


def _joint_reference(inputs: int, prior: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, 4 * prior),
        nn.GELU(),
        convolution(4 * prior, 2 * prior),
        nn.GELU(),
        convolution(2 * prior, prior),
    )


def _bottlenecks(channels: int) -> list[nn.Module]:
    return [Bottleneck(channels) for _ in range(3)]


class Encoder(nn.Module):
    """From a picture and its latent to y, at a sixteenth of the size."""

    def __init__(
        self, inputs: int, widths: Sequence[int], latent: int, outputs: int, prior: int, size: int
    ) -> None:
        super().__init__()
        first, second, third, last = widths
        self.sft_1_8 = _reference(latent, prior)
        self.sft_1_16 = _reference(prior, prior, 2)
        self.sft_1_16_2 = _reference(prior, prior)
        self.g_a1 = nn.Sequential(
            Halving(inputs, first),
            *_bottlenecks(first),
            Halving(first, second),
            *_bottlenecks(second),
            Halving(second, third),
            *_bottlenecks(third),
        )
        self.g_a1_ref = Modulation(third, prior, size)
        self.g_a2 = nn.Sequential(Halving(third, last), *_bottlenecks(last))
        self.g_a2_ref = Modulation(last, prior, size)
        self.g_a3 = convolution(last, last)
        self.g_a4 = ModulatedBlock(last, prior, size)
        self.g_a5 = ModulatedBlock(last, prior, size)
        self.g_a6 = convolution(last, outputs)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Return y."""
        reference = self.sft_1_8(latent)
        x = self.g_a1_ref(self.g_a1(x), reference)
        reference = self.sft_1_16(reference)
        x = self.g_a3(self.g_a2_ref(self.g_a2(x), reference))
        reference = self.sft_1_16_2(reference)
        return self.g_a6(self.g_a5(self.g_a4(x, reference), reference))


class HyperEncoder(nn.Module):
    """From y and the latent to z, at a quarter of the size of y."""

    def __init__(self, latents: int, hyper: int, latent: int, prior: int, size: int) -> None:
        super().__init__()
        self.sft_feature = _reference(latent, prior, 2)
        self.sft_feature_h1 = _joint_reference(prior + latents, prior)
        self.sft_feature_h2 = _reference(prior, prior, 2)
        self.sft_feature_h3 = _reference(prior, prior, 2)
        self.h_a0 = convolution(latents, hyper)
        self.h_a1 = Modulation(hyper, prior, size)
        self.h_a3 = convolution(hyper, hyper, 5, 2)
        self.h_a4 = Modulation(hyper, prior, size)
        self.h_a6 = convolution(hyper, hyper, 5, 2)
        self.h_a7 = ModulatedBlock(hyper, prior, size)
        self.h_a8 = ModulatedBlock(hyper, prior, size)
        self.h_a9 = nn.Conv2d(hyper, hyper, 1)

    def forward(self, y: Tensor, latent: Tensor) -> Tensor:
        """Return z."""
        reference = self.sft_feature_h1(torch.cat([self.sft_feature(latent), y], 1))
        x = functional.gelu(self.h_a1(self.h_a0(y), reference))
        reference = self.sft_feature_h2(reference)
        x = functional.gelu(self.h_a4(self.h_a3(x), reference))
        reference = self.sft_feature_h3(reference)
        return self.h_a9(self.h_a8(self.h_a7(self.h_a6(x), reference), reference))


def _synthesis(inputs: int, first: int, second: int, outputs: int) -> nn.Sequential:
    def layer(before: int, after: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(before, after, 5, 2, padding=2, output_padding=1)

    last = nn.ConvTranspose2d(second, outputs, 3, padding=1)
    return nn.Sequential(layer(inputs, first), nn.GELU(), layer(first, second), nn.GELU(), last)


class HyperDecoder(nn.Module):
    """From z to the side parameters of y."""

    def __init__(self, hyper: int, latents: int) -> None:
        super().__init__()
        self.hyper_dec = _synthesis(hyper, latents, latents * 3 // 2, latents * 2)

    def forward(self, z_hat: Tensor) -> Tensor:
        """Return twice as many channels as y has, in the size of y."""
        return self.hyper_dec(z_hat)


class Decoder(nn.Module):
    """From y and a reference to the latent, at twice the size of y."""

    def __init__(
        self, latents: int, hyper: int, reference: int, outputs: int, prior: int, size: int
    ) -> None:
        super().__init__()
        self.sft_feature_gs1 = _joint_reference(reference + latents, prior)
        self.sft_feature_gs2 = _reference(prior, prior)
        self.sft_feature_gs3 = nn.Sequential(
            nn.ConvTranspose2d(prior, prior, 3, 2, padding=1, output_padding=1),
            nn.GELU(),
            nn.Conv2d(prior, prior, 1),
        )
        self.g_s0 = ModulatedBlock(latents, prior, size)
        self.g_s1 = ModulatedBlock(latents, prior, size)
        self.g_s2 = nn.Sequential(convolution(latents, hyper), *_bottlenecks(hyper))
        self.g_s2_ref = Modulation(hyper, prior, size)
        self.g_s3 = nn.Sequential(Doubling(hyper, hyper), *_bottlenecks(hyper))
        self.g_s3_ref = Modulation(hyper, prior, size)
        self.g_s4 = convolution(hyper, outputs)

    def forward(self, y_hat: Tensor, reference: Tensor) -> Tensor:
        """Return the latent."""
        reference = self.sft_feature_gs1(torch.cat([reference, y_hat], 1))
        x = self.g_s1(self.g_s0(y_hat, reference), reference)
        reference = self.sft_feature_gs2(reference)
        x = self.g_s2_ref(self.g_s2(x), reference)
        reference = self.sft_feature_gs3(reference)
        return self.g_s4(self.g_s3_ref(self.g_s3(x), reference))


class Lfgcm(SlicedNetwork):
    """The latent feature-guided compression module.

    Args:
        in_nc: channels of pictures.
        enc_mid: channels of the encoder's four stages; the last is N.
        out_nc: channels of the latent.
        N: channels of z.
        M: channels of y.
        prior_nc: channels of references.
        sft_ks: size of the kernels of spatial feature transforms.
        slices: channels of each slice of y.
    """

    def __init__(
        self,
        in_nc: int,
        enc_mid: Sequence[int],
        out_nc: int,
        N: int,  # noqa: N803
        M: int,  # noqa: N803
        prior_nc: int,
        sft_ks: int,
        slices: Sequence[int],
    ) -> None:
        CompressionModel.__init__(self)
        self.encoder = Encoder(in_nc, enc_mid, out_nc, M, prior_nc, sft_ks)
        self.hyper_enc = HyperEncoder(M, N, out_nc, prior_nc, sft_ks)
        self.hyper_dec = HyperDecoder(N, M)
        self.f_c = _synthesis(N, N // 2, N // 4, N // 4)
        self.decoder = Decoder(M, N, N // 4, out_nc, prior_nc, sft_ks)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.add_contexts(slices, 2 * M)

    def analysis(self, *inputs: Tensor) -> Tensor:
        """See the base.

        Args:
            inputs: pictures in 0..1 ``(B, 3, H, W)``, whose sides are multiples of 64, and
                their scaled latents ``(B, 4, H/8, W/8)``.
        """
        x, latent = inputs
        return self.encoder(x, latent)

    def hyper_analysis(self, y: Tensor, *guides: Tensor) -> Tensor:
        """See the base."""
        return self.hyper_enc(y, *guides)

    def reconstruct(self, y_hat: Tensor, z_hat: Tensor) -> dict[str, Tensor]:
        """Return ``c_latent``, the scaled latent as far as it was coded, ``(B, 4, H/8, W/8)``."""
        dtype = self._transform_dtype
        reference = self.f_c(z_hat.to(dtype))
        return {"c_latent": self.decoder(y_hat.to(dtype), reference)}
