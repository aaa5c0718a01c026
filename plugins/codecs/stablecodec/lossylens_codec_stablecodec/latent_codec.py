"""The network that codes StableCodec's latent.

Zhang et al., "StableCodec: Taming One-Step Diffusion for Extreme Image Compression", ICCV
2025.  Attributes have the names of the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lossylens_toolkit.latent_diffusion.diffusion_network import GuidedNetwork
from lossylens_toolkit.neural_codec.coding import Coder
from lossylens_toolkit.neural_codec.compressai import (
    CompressionModel,
    EntropyBottleneck,
    GaussianConditional,
)
from lossylens_toolkit.neural_codec.probability_tables import SCALES
from torch import Tensor, nn
from torch.nn import functional

#: For each pass, which of the four groups of channels is coded at each of the positions
#: (even, even), (even, odd), (odd, even), (odd, odd) of row and column.
_PASSES = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)


def _depthwise(channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, size, stride, padding=size // 2, groups=channels)


class SplitDepthwise(nn.Module):
    """Convolutions of 3x3, 1x11 and 11x1 on an eighth of the channels each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // 8
        self.dwconv_hw = nn.Conv2d(part, part, 3, padding=1, groups=part)
        self.dwconv_w = nn.Conv2d(part, part, (1, 11), padding=(0, 5), groups=part)
        self.dwconv_h = nn.Conv2d(part, part, (11, 1), padding=(5, 0), groups=part)
        self.split = [channels - 3 * part, part, part, part]

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        same, square, wide, high = x.split(self.split, 1)
        parts = [same, self.dwconv_hw(square), self.dwconv_w(wide), self.dwconv_h(high)]
        return torch.cat(parts, 1)


class InceptionBlock(nn.Module):
    """A residual block after InceptionNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthconv = SplitDepthwise(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        return self.conv2(functional.gelu(self.conv1(self.depthconv(x)))) + x


class ChannelNorm(nn.Module):
    """Layer normalisation over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        last = x.permute(0, 2, 3, 1)
        normal = functional.layer_norm(last, last.shape[-1:], self.weight, self.bias, 1e-6)
        return normal.permute(0, 3, 1, 2)


class GatedBlock(nn.Module):
    """A residual block with a gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.fc1 = nn.Conv2d(channels, 4 * channels, 1)
        self.conv = _depthwise(2 * channels, 3)
        self.fc2 = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        gate, content = self.fc1(self.norm(x)).chunk(2, 1)
        return self.fc2(functional.gelu(gate) * self.conv(content)) + x


class BasicBlock(nn.Module):
    """The block that all transforms are made of."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(InceptionBlock(channels), GatedBlock(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of *x*."""
        return self.blocks(x)


class _Branches(nn.Module):
    """The sum of two branches."""

    branch1: nn.Module
    branch2: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.branch1(x) + self.branch2(x)


class Downsample(_Branches):
    """To half the height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch1 = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1), nn.GELU(), _convolution(outputs, outputs, 3, 2)
        )
        self.branch2 = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1), nn.GELU(), _depthwise(outputs, 5, 2)
        )


class Upsample(_Branches):
    """To twice the height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        firsts = _convolution(inputs, inputs), _depthwise(inputs, 5)
        self.branch1, self.branch2 = (
            nn.Sequential(first, nn.GELU(), nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))
            for first in firsts
        )


class Adapter(_Branches):
    """To another number of channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        inside = (inputs + outputs) // 2
        self.branch1 = nn.Sequential(
            nn.Conv2d(inputs, inside, 1),
            nn.GELU(),
            _depthwise(inside, 5),
            nn.GELU(),
            nn.Conv2d(inside, outputs, 1),
        )
        self.branch2 = nn.Conv2d(inputs, outputs, 1)


class Analysis(nn.Module):
    """From the latent and the auxiliary features to y, at an eighth of the latent's size."""

    def __init__(self, latent: int, features: int, outputs: int) -> None:
        super().__init__()
        self.pre1 = Downsample(latent, 128)
        self.pre2 = _convolution(features, 64)
        self.analysis_transform = nn.Sequential(
            BasicBlock(192),
            Downsample(192, 256),
            BasicBlock(256),
            Downsample(256, outputs),
            BasicBlock(outputs),
        )

    def forward(self, latent: Tensor, features: Tensor) -> Tensor:
        """Return y."""
        joint = torch.cat([self.pre1(latent), self.pre2(features)], 1)
        return self.analysis_transform(joint)


class Synthesis(nn.Module):
    """From y to what takes the noisy latent's place, at eight times the size of y."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [(BasicBlock(channels), Upsample(channels, channels)) for _ in range(3)]
        self.synthesis_transform = nn.Sequential(*(each for pair in layers for each in pair))

    def forward(self, y_hat: Tensor) -> Tensor:
        """Return as many channels as y has."""
        return self.synthesis_transform(y_hat)


class AuxiliarySynthesis(nn.Module):
    """From y to what is added to the denoised latent."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            BasicBlock(channels),
            Upsample(channels, 256),
            BasicBlock(256),
            Upsample(256, 192),
            BasicBlock(192),
            Upsample(192, outputs),
        )

    def forward(self, y_hat: Tensor) -> Tensor:
        """Return as many channels as the latent has."""
        return self.block(y_hat)


class HyperAnalysis(nn.Module):
    """From y to z, at a quarter of its size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = channels // 2
        self.reduction = nn.Sequential(
            _convolution(channels, inside, 3, 2),
            BasicBlock(inside),
            _convolution(inside, inside, 3, 2),
        )

    def forward(self, y: Tensor) -> Tensor:
        """Return z."""
        return self.reduction(y)


class HyperSynthesis(nn.Module):
    """From z to what is known of y before any of it is decoded."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = channels // 2
        self.increase = nn.Sequential(
            nn.Conv2d(inside, 4 * inside, 1),
            nn.PixelShuffle(2),
            BasicBlock(inside),
            nn.Conv2d(inside, 4 * channels, 1),
            nn.PixelShuffle(2),
        )

    def forward(self, z_hat: Tensor) -> Tensor:
        """Return as many channels as y has."""
        return self.increase(z_hat)


class _Chain(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class LatentCodec(GuidedNetwork):
    """The codec of the latent.

    Args:
        M: channels of y.
        latent: channels of the latent.
        features: channels of the auxiliary encoder's features.
        context: channels of the context model.
        context_blocks: blocks of the context model.
    """

    #: Image pixels per position of y and of z.
    stride = 64
    hyper_stride = 256

    def __init__(
        self,
        M: int,  # noqa: N803
        latent: int,
        features: int,
        context: int,
        context_blocks: int,
    ) -> None:
        CompressionModel.__init__(self)
        self.latent_channels = M
        self.g_a = Analysis(latent, features, M)
        self.g_s = Synthesis(M)
        self.aux = AuxiliarySynthesis(M, latent)
        self.h_a = HyperAnalysis(M)
        self.h_s = HyperSynthesis(M)
        self.adapter_in = nn.ModuleList(Adapter(M, context) for _ in _PASSES)
        self.adapter_out = nn.ModuleList(Adapter(context, 2 * M) for _ in _PASSES)
        self.g_c = _Chain(*(BasicBlock(context) for _ in range(context_blocks)))
        inside = M * 3 // 2
        self.LRP = nn.ModuleList(
            _Chain(Adapter(2 * M, inside), Adapter(inside, M)) for _ in _PASSES
        )
        self.entropy_bottleneck = EntropyBottleneck(M // 2)
        self.gaussian_conditional = GaussianConditional(list(SCALES))

    def analysis(self, *inputs: Tensor) -> Tensor:
        """See the base.

        Args:
            inputs: scaled latents ``(B, 4, H/8, W/8)`` of pictures whose sides are multiples
                of 256, and the auxiliary encoder's features ``(B, 320, H/16, W/16)``.
        """
        latent, features = inputs
        return self.g_a(latent, features)

    def hyper_analysis(self, y: Tensor, *guides: Tensor) -> Tensor:
        """See the base."""
        return self.h_a(y)

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base."""
        return self.h_s(z_hat)

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base."""
        return [self.h_s, self.adapter_in, self.g_c, self.adapter_out, self.LRP]

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: in four passes, each a quarter of the channels at every position."""
        known = side
        for k in range(len(_PASSES)):
            mask = _mask(k, side)
            parameters = self.adapter_out[k](self.g_c(self.adapter_in[k](known)))
            means, scales = (_squeezed(each, mask) for each in parameters.chunk(2, 1))
            part = None if y is None else _squeezed(y.to(side.dtype), mask)
            y_hat = _spread(coder.code(scales, means, part), mask)
            lost = self.LRP[k](torch.cat([y_hat, known], 1))
            everywhere = mask.repeat_interleave(y_hat.shape[1] // 4, 1)
            y_hat = y_hat + 0.5 * torch.tanh(lost * everywhere)
            known = known * (1 - everywhere) + y_hat
        return known

    def residual_predictions(self) -> Sequence[nn.Module]:
        """See the base."""
        return [self.LRP]

    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """See the base."""
        return torch.stack([_spread(each, _mask(k, each)) for k, each in enumerate(segments)]).sum(
            0
        )

    def reconstruct(self, y_hat: Tensor, z_hat: Tensor) -> dict[str, Tensor]:
        """Return ``h``, for the UNet, and ``res``, to be added to its denoised latent.

        They are ``(B, M, H/8, W/8)`` and ``(B, 4, H/8, W/8)``.
        """
        y_hat = y_hat.to(self._transform_dtype)
        return {"h": self.g_s(y_hat), "res": self.aux(y_hat)}

    @property
    def synthesis(self) -> nn.Module:
        """See the base."""
        return self.g_s


def _mask(k: int, like: Tensor) -> Tensor:
    """Return 1 where pass *k* codes a group of channels, ``(1, 4, h, w)``; *like* has h and w."""
    height, width = like.shape[-2:]
    rows, columns = torch.arange(height) % 2, torch.arange(width) % 2
    groups = torch.tensor(_PASSES[k])[2 * rows[:, None] + columns]
    return functional.one_hot(groups, 4).permute(2, 0, 1)[None].to(like)


def _squeezed(x: Tensor, mask: Tensor) -> Tensor:
    """Return of ``(B, C, h, w)`` the group that *mask* has at each position."""
    groups = x.unflatten(1, (4, -1))
    return (groups * mask[:, :, None]).sum(1)


def _spread(x: Tensor, mask: Tensor) -> Tensor:
    """Undo :func:`_squeezed`, with zeros elsewhere."""
    return (x[:, None] * mask[:, :, None]).flatten(1, 2)
