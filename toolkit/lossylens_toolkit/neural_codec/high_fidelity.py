"""The autoencoder of HiFiC, which MS-ILLM shares but for its padding and its priors.

Mentzer et al., "High-Fidelity Generative Image Compression", NeurIPS 2020,
arXiv:2006.09965; the prior of y is a mean and a scale from a hyperprior (Minnen et al.,
NeurIPS 2018), without a context model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossylens_toolkit.neural_codec.coding import Coder, Likelihoods
from lossylens_toolkit.neural_codec.compressai import quantize_ste
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from lossylens_toolkit.neural_codec.padding import Padding

#: Added to the variance of a channel norm.
EPSILON = 1e-3


@dataclass(frozen=True)
class Widths:
    """Channels of the autoencoder.

    Attributes:
        stages: of the features at strides 1, 2, 4, 8 and 16; two at least.
        latents: of y.
        hyper: of z.
        blocks: number of residual blocks.

    Raises:
        ValueError: numbers that make no network.
    """

    stages: Sequence[int] = (60, 120, 240, 480, 960)
    latents: int = 220
    hyper: int = 320
    blocks: int = 9

    def __post_init__(self) -> None:
        """Check the numbers."""
        if len(self.stages) != 5 or min(*self.stages, self.latents) < 2:
            raise ValueError(
                f"stages {list(self.stages)} and {self.latents} latents; there are five stages, and"
                " norms need two channels"
            )
        if self.hyper < 1 or self.blocks < 0:
            raise ValueError(f"{self.hyper} hyper latents and {self.blocks} residual blocks")


class ChannelNorm(nn.Module):
    """Normalises each position over its channels, by the unbiased variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, C, H, W)`` normalised, scaled and shifted."""
        # torch.var_mean over the second dimension takes up to twenty times as long.
        x = x - x.mean(1, keepdim=True)
        variance = x.square().sum(1, keepdim=True) / (x.shape[1] - 1)
        return torch.addcmul(self.beta, x * (variance + EPSILON).rsqrt(), self.gamma)


class ReflectedConv2d(nn.Conv2d):
    """A convolution of a picture continued by reflection.

    Args:
        inputs: channels.
        outputs: channels.
        size: of the kernel.
        stride: 1 or 2.
        sides: rows and columns that are added: left, right, top, bottom; by default half
            the kernel everywhere.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        sides: tuple[int, int, int, int] | None = None,
    ) -> None:
        super().__init__(inputs, outputs, size, stride)
        self.sides = sides or (size // 2,) * 4

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution."""
        return super().forward(functional.pad(x, self.sides, mode="reflect"))


#: Makes a convolution, given channels of input and output, kernel size and stride.
Convolution = Callable[[int, int, int, int], nn.Conv2d]


class AnalysisTransform(nn.Module):
    """Pictures in 0..1 to latents y at a sixteenth of their size.

    Args:
        widths: of all.
        convolution: makes its layers.
        symmetric: whether pictures are taken to -1..1 first.
        multiple: of which the sides of y become multiples, by reflection at the right and
            the bottom.
    """

    def __init__(
        self,
        widths: Widths,
        convolution: Convolution,
        symmetric: bool = False,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.padding = Padding(multiple, mode="reflect")
        blocks: list[nn.Module] = []
        before, size, stride = 3, 7, 1
        for width in widths.stages:
            layer = convolution(before, width, size, stride)
            blocks.append(nn.Sequential(layer, ChannelNorm(width), nn.ReLU(inplace=True)))
            before, size, stride = width, 3, 2
        blocks.append(convolution(before, widths.latents, 3, 1))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        return self.padding.pad(self.blocks(2 * x - 1 if self.symmetric else x))


class ResidualBlock(nn.Module):
    """Two convolutions with their norms, added to the input; no activation behind them."""

    def __init__(self, width: int, convolution: Convolution) -> None:
        super().__init__()
        self.sequence = nn.Sequential(
            convolution(width, width, 3, 1),
            ChannelNorm(width),
            nn.ReLU(inplace=True),
            convolution(width, width, 3, 1),
            ChannelNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        return x + self.sequence(x)


class Synthesis(nn.Module):
    """The generator: quantised latents to pictures.

    Args:
        widths: of all.
        convolution: makes its layers.
        symmetric: whether a hyperbolic tangent ends it, whose range is taken to 0..1.
    """

    def __init__(self, widths: Widths, convolution: Convolution, symmetric: bool = False) -> None:
        super().__init__()
        self.symmetric = symmetric
        *lower, width = widths.stages
        self.block_0 = nn.Sequential(
            ChannelNorm(widths.latents),
            convolution(widths.latents, width, 3, 1),
            ChannelNorm(width),
        )
        self.resid_blocks = nn.Sequential(
            *(ResidualBlock(width, convolution) for _ in range(widths.blocks))
        )
        blocks: list[nn.Module] = []
        for after in reversed(lower):
            layer = nn.ConvTranspose2d(width, after, 3, 2, padding=1, output_padding=1)
            blocks.append(nn.Sequential(layer, ChannelNorm(after), nn.ReLU(inplace=True)))
            width = after
        blocks.append(convolution(width, 3, 7, 1))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, y_hat: Tensor) -> Tensor:
        """Return pictures, not clamped."""
        head = self.block_0(y_hat)
        x = self.blocks(self.resid_blocks(head) + head)
        return (torch.tanh(x) + 1) / 2 if self.symmetric else x


def hyper_analysis(widths: Widths, halving: Convolution) -> nn.Sequential:
    """Return the layers from y to z; *halving* makes the last two."""
    return nn.Sequential(
        nn.Conv2d(widths.latents, widths.hyper, 3, padding=1),
        nn.ReLU(inplace=True),
        halving(widths.hyper, widths.hyper, 5, 2),
        nn.ReLU(inplace=True),
        halving(widths.hyper, widths.hyper, 5, 2),
    )


def hyper_synthesis(widths: Widths, last: nn.Module) -> nn.Sequential:
    """Return the layers from z to one parameter of each latent, of which *last* is the last."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers.append(
            nn.ConvTranspose2d(widths.hyper, widths.hyper, 5, 2, padding=2, output_padding=1)
        )
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, last)


class HighFidelityNetwork(HyperpriorNetwork):
    """The autoencoder with its hyperprior.

    Subclasses set the transforms ``g_a`` and ``g_s``, those of the hyperprior, ``h_a``,
    ``h_mean`` and ``h_scale``, and the two priors.

    Attributes:
        padding: by which pictures of any size come to one that fits.
    """

    padding: Padding

    def forward(self, x: Tensor) -> dict[str, Any]:
        """See the base; pictures of any size are padded, and ``x_hat`` is cropped."""
        out = super().forward(self.padding.pad(x))
        return {**out, "x_hat": out["x_hat"][..., : x.shape[-2], : x.shape[-1]]}

    @torch.no_grad()
    def compress(self, x: Tensor) -> dict[str, Any]:
        """See the base; pictures of any size are padded."""
        return super().compress(self.padding.pad(x))

    @torch.no_grad()
    def estimate(self, x: Tensor) -> dict[str, Tensor]:
        """Return the likelihoods of y and z that :meth:`forward` does, without synthesis."""
        y = self.g_a(self.padding.pad(x)).to(self._dtype)
        z = self.hyper_analysis(y.to(next(self.h_a.parameters()).dtype))
        _, z_likelihoods = self.bottleneck(z)
        z_hat = quantize_ste(z.to(self._dtype) - self._medians) + self._medians
        coder = Likelihoods(self.gaussian)
        self.walk(self.hyper_synthesis(z_hat), y, coder)
        return {"y": self.in_channel_order(coder.segments), "z": z_likelihoods}

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base; scales come first, then means."""
        return torch.cat([self.h_scale(z_hat), self.h_mean(z_hat)], 1)

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: all latents at once."""
        scales, means = side.chunk(2, 1)
        return coder.code(scales, means, y)

    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """See the base."""
        return segments[0]

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base."""
        return [self.h_scale, self.h_mean]
