"""The MLIC++ network of the public checkpoints.

Jiang et al., "MLIC++: Linear Complexity Multi-Reference Entropy Modeling for Learned
Image Compression", arXiv:2307.15421.  Names of submodules are those of the public
checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from lossylens_toolkit.neural_codec import checkerboard
from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters
from lossylens_toolkit.neural_codec.coding import Coder
from lossylens_toolkit.neural_codec.compressai import (
    EntropyBottleneck,
    GaussianConditional,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    conv3x3,
    subpel_conv3x3,
)
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from torch import Tensor, nn

from lossylens_codec_mlicpp.contexts import (
    InterContext,
    IntraContext,
    LocalContext,
    channel_context,
    entropy_parameters,
    residual_prediction,
)

#: 2024: the current public code, with a checkpoint at one rate; 2023: those of all rates.
Release = Literal["2023", "2024"]


class Mlicpp(HyperpriorNetwork):
    """MLIC++; see :func:`build` for the arguments."""

    def __init__(
        self,
        N: int,  # noqa: N803
        M: int,  # noqa: N803
        slice_num: int,
        context_window: int,
        release: Release,
    ) -> None:
        super().__init__()
        self.slices, self.latent_channels = slice_num, M
        self.g_a = _named("analysis_transform", *_analysis(N, M))
        self.g_s = _named("synthesis_transform", *_synthesis(N, M, M if release == "2024" else N))
        self.h_a = _named("reduction", *_hyper_analysis(N, M))
        self.h_s = _named("increase", *_hyper_synthesis(N, M))
        self._build_contexts(M // slice_num, context_window, release)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)

    def _build_contexts(self, width: int, window: int, release: Release) -> None:
        numbers, later = range(self.slices), range(1, self.slices)
        hyper = 2 * self.latent_channels
        # The first slice has no slices before it; the lists begin at 1.
        none = nn.Identity()
        self.local_context = nn.ModuleList(LocalContext(width, window) for _ in numbers)
        self.channel_context = nn.ModuleList([none, *(channel_context(i, width) for i in later)])
        self.global_inter_context = nn.ModuleList([none, *(InterContext(i, width) for i in later)])
        self.global_intra_context = nn.ModuleList([none, *(IntraContext(width) for _ in later)])
        self.entropy_parameters_anchor = nn.ModuleList(
            entropy_parameters(hyper + (6 * width if i else 0), width) for i in numbers
        )
        self.entropy_parameters_nonanchor = nn.ModuleList(
            entropy_parameters(hyper + (10 * width if i else 2 * width), width) for i in numbers
        )
        quartered = release == "2023"
        inputs = [self.latent_channels + width * (i + 1) for i in numbers]
        self.lrp_anchor, self.lrp_nonanchor = (
            nn.ModuleList(residual_prediction(each, width, quartered) for each in inputs)
            for _ in range(2)
        )

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base; scales come first, then means."""
        return self.h_s(z_hat)

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base."""
        return [
            self.h_s,
            self.local_context,
            self.channel_context,
            self.global_inter_context,
            self.global_intra_context,
            self.entropy_parameters_anchor,
            self.entropy_parameters_nonanchor,
            self.lrp_anchor,
            self.lrp_nonanchor,
        ]

    def residual_predictions(self) -> Sequence[nn.Module]:
        """See the base."""
        return [*self.lrp_anchor, *self.lrp_nonanchor]

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: slice by slice, the anchors of each first."""
        parts = [None] * self.slices if y is None else y.chunk(self.slices, 1)
        done: list[Tensor] = []
        for i, part in enumerate(parts):
            done.append(self._walk_slice(i, side, done, part, coder))
        return torch.cat(done, 1)

    def _walk_slice(
        self, i: int, side: Tensor, done: list[Tensor], y: Tensor | None, coder: Coder
    ) -> Tensor:
        """Return slice *i*, given the slices *done*."""
        even_y, odd_y = (None, None) if y is None else checkerboard.split(y)
        known = side
        if i:
            before = torch.cat(done, 1)
            contexts = [self.global_inter_context[i](before), self.channel_context[i](before)]
            known = torch.cat([*contexts, side], 1)
        even_known, odd_known = checkerboard.split(known)
        support = [side.chunk(2, 1)[1], *done]

        scales, means = self.entropy_parameters_anchor[i](odd_known).chunk(2, 1)
        odd = coder.code(scales, means, odd_y)
        nothing = torch.zeros_like(odd)
        residual = _residual(self.lrp_anchor[i], support, checkerboard.merge(nothing, odd))
        odd = odd + checkerboard.split(residual)[1]

        anchors = checkerboard.merge(nothing, odd)
        contexts = [self.local_context[i](anchors)]
        if i:
            intra = self.global_intra_context[i](done[-1], anchors)
            contexts.append(checkerboard.split(intra)[0])
        inputs = torch.cat([*contexts, even_known], 1)
        scales, means = self.entropy_parameters_nonanchor[i](inputs).chunk(2, 1)
        even = coder.code(scales, means, even_y)
        residual = _residual(self.lrp_nonanchor[i], support, checkerboard.merge(even, odd))
        return checkerboard.merge(even + checkerboard.split(residual)[0], odd)

    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """See the base."""
        pairs = zip(segments[::2], segments[1::2], strict=True)
        return torch.cat([checkerboard.merge(even, odd) for odd, even in pairs], 1)


def _residual(network: nn.Module, support: list[Tensor], values: Tensor) -> Tensor:
    return 0.5 * torch.tanh(network(torch.cat([*support, values], 1)))


def _named(name: str, *layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))


def _gelu(block: nn.Module) -> nn.Module:
    """Return a block of CompressAI with its activation replaced."""
    block.leaky_relu = nn.GELU()
    return block


def _analysis(channels: int, latents: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs in (3, channels, channels):
        layers.append(_gelu(ResidualBlockWithStride(inputs, channels)))
        layers.append(_gelu(ResidualBlock(channels, channels)))
    return [*layers, conv3x3(channels, latents, stride=2)]


def _synthesis(channels: int, latents: int, first: int) -> list[nn.Module]:
    layers: list[nn.Module] = [_gelu(ResidualBlock(latents, first))]
    for inputs in (first, channels, channels):
        layers.append(_gelu(ResidualBlockUpsample(inputs, channels)))
        layers.append(_gelu(ResidualBlock(channels, channels)))
    return [*layers, subpel_conv3x3(channels, 3, 2)]


def _hyper_analysis(channels: int, latents: int) -> list[nn.Module]:
    layers: list[nn.Module] = [conv3x3(latents, channels)]
    for stride in (1, 2, 1, 2):
        layers += [nn.GELU(), conv3x3(channels, channels, stride=stride)]
    return layers


def _hyper_synthesis(channels: int, latents: int) -> list[nn.Module]:
    wide = latents * 3 // 2
    return [
        conv3x3(channels, latents),
        nn.GELU(),
        subpel_conv3x3(latents, latents, 2),
        nn.GELU(),
        conv3x3(latents, wide),
        nn.GELU(),
        subpel_conv3x3(wide, wide, 2),
        nn.GELU(),
        conv3x3(wide, 2 * latents),
    ]


def build(
    N: int = 192,  # noqa: N803
    M: int = 320,  # noqa: N803
    slice_num: int = 10,
    context_window: int = 5,
    release: Release = "2024",
) -> Mlicpp:
    """Return an untrained network; by default that of the current public code.

    Args:
        N: channels of the transforms and of z.
        M: channels of y.
        slice_num: slices of y; the context modules are as wide as a slice, times a constant.
        context_window: positions along each side of the local context.
        release: ``"2023"`` for the network of the checkpoints of 2023, which cover all
            rates.

    Raises:
        ValueError: arguments that do not fit together.
    """
    if M % slice_num or M // slice_num % 2 or context_window % 2 == 0:
        raise ValueError(f"{M} channels cannot be cut into {slice_num} slices of two heads")
    if release not in ("2023", "2024"):
        raise ValueError(f"unknown release {release!r}; there are 2023 and 2024")
    return Mlicpp(N, M, slice_num, context_window, release).eval()


#: The names of the public checkpoints are the network's own.
load_official = load_parameters
official_state_dict = parameters
