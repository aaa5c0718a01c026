"""Layers and context model that DiffEIC and RDEIC have in common.

The context model is ELIC's (He et al., CVPR 2022): slices of channels, each in two halves
of a checkerboard.  Attributes have the names of the official checkpoints, misspelt ones
included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossylens_toolkit.latent_diffusion.diffusion_network import GuidedNetwork
from lossylens_toolkit.neural_codec import checkerboard
from lossylens_toolkit.neural_codec.coding import Coder
from lossylens_toolkit.neural_codec.compressai import GaussianConditional
from lossylens_toolkit.neural_codec.probability_tables import SCALES

#: Channels inside the channel contexts, whatever the size of the network.
_CONTEXT_WIDTHS = (224, 128)


def convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the size at stride 1."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)


def doubling(inputs: int, outputs: int) -> nn.Sequential:
    """Return layers that double height and width."""
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))


class Halving(nn.Module):
    """A residual block that halves height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, 3, 2)
        self.conv2 = convolution(outputs, outputs)
        self.downsample = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, outputs, H/2, W/2)``."""
        out = self.conv2(functional.leaky_relu(self.conv1(x), 0.01))
        return functional.leaky_relu(out, 0.1) + self.downsample(x)


class Doubling(nn.Module):
    """A residual block that doubles height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.subpel_conv = doubling(inputs, outputs)
        self.conv = convolution(outputs, outputs)
        self.upsample = doubling(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, outputs, 2H, 2W)``."""
        out = self.conv(functional.leaky_relu(self.subpel_conv(x), 0.01))
        return functional.leaky_relu(out, 0.1) + self.upsample(x)


class _ChannelContext(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        first, second = _CONTEXT_WIDTHS
        self.fushion = nn.Sequential(
            convolution(inputs, first, 5),
            nn.GELU(),
            convolution(first, second, 5),
            nn.GELU(),
            convolution(second, outputs, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fushion(x)


class _EntropyParameters(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        first, second = outputs * 5 // 3, outputs * 4 // 3
        self.fusion = nn.Sequential(
            nn.Conv2d(inputs, first, 1),
            nn.GELU(),
            nn.Conv2d(first, second, 1),
            nn.GELU(),
            nn.Conv2d(second, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fusion(x)


class SlicedNetwork(GuidedNetwork):
    """A network with the context model; subclasses call :meth:`add_contexts`."""

    hyper_dec: Any
    decoder: nn.Module

    def add_contexts(self, slices: Sequence[int], side: int) -> None:
        """Make the modules of the context model.

        Args:
            slices: channels of each slice of y.
            side: channels of what :meth:`hyper_synthesis` returns.
        """
        self.slices = list(slices)
        self.latent_channels = sum(slices)
        self.local_context = nn.ModuleList(convolution(n, 2 * n, 5) for n in slices)
        self.channel_context = nn.ModuleList(
            _ChannelContext(sum(slices[:i]), 2 * n) if i else nn.Identity()
            for i, n in enumerate(slices)
        )
        known = [side + (2 * n if i else 0) for i, n in enumerate(slices)]
        sizes = list(zip(known, slices, strict=True))
        self.entropy_parameters_anchor = nn.ModuleList(
            _EntropyParameters(inputs, 2 * n) for inputs, n in sizes
        )
        self.entropy_parameters_nonanchor = nn.ModuleList(
            _EntropyParameters(inputs + 2 * n, 2 * n) for inputs, n in sizes
        )
        self.gaussian_conditional = GaussianConditional(list(SCALES))

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base."""
        return self.hyper_dec(z_hat)

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base."""
        return [
            self.hyper_dec,
            self.local_context,
            self.channel_context,
            self.entropy_parameters_anchor,
            self.entropy_parameters_nonanchor,
        ]

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: slice by slice, the positions of odd parity first."""
        done: list[Tensor] = []
        parts = [None] * len(self.slices) if y is None else y.split(self.slices, 1)
        for i, part in enumerate(parts):
            known = side
            if i:
                known = torch.cat([self.channel_context[i](torch.cat(done, 1)), side], 1)
            done.append(self._walk_slice(i, known, part, coder))
        return torch.cat(done, 1)

    def _walk_slice(self, i: int, known: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        even_y, odd_y = (None, None) if y is None else checkerboard.split(y)
        even, odd = checkerboard.split(known)
        scales, means = self.entropy_parameters_anchor[i](odd).chunk(2, 1)
        anchor = coder.code(scales, means, odd_y)
        seen = self.local_context[i](checkerboard.merge(torch.zeros_like(anchor), anchor))
        even = torch.cat([checkerboard.split(seen)[0], even], 1)
        scales, means = self.entropy_parameters_nonanchor[i](even).chunk(2, 1)
        return checkerboard.merge(coder.code(scales, means, even_y), anchor)

    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """See the base."""
        pairs = zip(segments[::2], segments[1::2], strict=True)
        return torch.cat([checkerboard.merge(even, odd) for odd, even in pairs], 1)

    @property
    def synthesis(self) -> nn.Module:
        """See the base."""
        return self.decoder
