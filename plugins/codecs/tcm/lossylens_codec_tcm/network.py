"""The TCM network of the public checkpoints.

Liu et al., "Learned Image Compression with Mixed Transformer-CNN Architectures",
CVPR 2023, arXiv:2303.14978.  Names of submodules are those of the public
checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lossylens_toolkit.neural_codec.channelwise_network import ChannelwiseNetwork
from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters
from lossylens_toolkit.neural_codec.coding import Coder
from lossylens_toolkit.neural_codec.compressai import (
    EntropyBottleneck,
    GaussianConditional,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    conv3x3,
    subpel_conv3x3,
)
from torch import Tensor, nn

from lossylens_codec_tcm.attention import MixedBlock, SwinAttention

_WINDOW = 8
_HYPER_WINDOW = 4
_HYPER_HEAD_WIDTH = 32
#: Of the attention of the entropy model.
_HEADS = 8


class Tcm(ChannelwiseNetwork):
    """TCM; see :func:`build` for the arguments."""

    def __init__(
        self,
        config: Sequence[int],
        head_dim: Sequence[int],
        N: int,  # noqa: N803
        M: int,  # noqa: N803
        num_slices: int,
        z_channels: int,
        attention_width: int,
        context: tuple[int, int],
    ) -> None:
        super().__init__()
        wide, self.slices, self.latent_channels = 2 * N, num_slices, M
        stages = [_stage(*each, N, _WINDOW) for each in zip(config, head_dim, strict=True)]
        self.g_a = nn.Sequential(
            ResidualBlockWithStride(3, wide),
            *stages[0],
            ResidualBlockWithStride(wide, wide),
            *stages[1],
            ResidualBlockWithStride(wide, wide),
            *stages[2],
            conv3x3(wide, M, stride=2),
        )
        self.g_s = nn.Sequential(
            ResidualBlockUpsample(M, wide),
            *stages[3],
            ResidualBlockUpsample(wide, wide),
            *stages[4],
            ResidualBlockUpsample(wide, wide),
            *stages[5],
            subpel_conv3x3(wide, 3, 2),
        )
        self.h_a = nn.Sequential(
            ResidualBlockWithStride(M, wide),
            *_hyper_stage(config[0], N),
            conv3x3(wide, z_channels, stride=2),
        )
        self.h_mean_s = _hyper_synthesis(config[3], N, M, z_channels)
        self.h_scale_s = _hyper_synthesis(config[3], N, M, z_channels)
        self._build_contexts(M // num_slices, attention_width, context)
        self.entropy_bottleneck = EntropyBottleneck(z_channels)
        self.gaussian_conditional = GaussianConditional(None)

    def _build_contexts(self, width: int, attention_width: int, context: tuple[int, int]) -> None:
        known = [self.latent_channels + width * i for i in range(self.slices)]

        def attention(channels: int) -> nn.Sequential:
            head_width = attention_width // _HEADS
            return nn.Sequential(SwinAttention(channels, attention_width, head_width, _WINDOW))

        self.atten_mean = nn.ModuleList(map(attention, known))
        self.atten_scale = nn.ModuleList(map(attention, known))
        self.build_slices(known, width, context)

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base; means come first, then scales."""
        return torch.cat([self.h_mean_s(z_hat), self.h_scale_s(z_hat)], 1)

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base."""
        return [
            self.h_mean_s,
            self.h_scale_s,
            self.atten_mean,
            self.atten_scale,
            self.cc_mean_transforms,
            self.cc_scale_transforms,
            self.lrp_transforms,
        ]

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: slice by slice, each predicted from all slices before it."""
        means, scales = side.chunk(2, 1)
        done: list[Tensor] = []
        for i, part in enumerate(self.parts(y)):
            known_means = self.atten_mean[i](torch.cat([means, *done], 1))
            known_scales = self.atten_scale[i](torch.cat([scales, *done], 1))
            done.append(self.code_slice(i, coder, part, known_means, known_scales))
        return torch.cat(done, 1)


def _stage(blocks: int, head_width: int, channels: int, window: int) -> list[nn.Module]:
    return [MixedBlock(channels, head_width, window, i % 2 == 1) for i in range(blocks)]


def _hyper_stage(blocks: int, channels: int) -> list[nn.Module]:
    return _stage(blocks, min(_HYPER_HEAD_WIDTH, channels), channels, _HYPER_WINDOW)


def _hyper_synthesis(blocks: int, channels: int, latents: int, hyper: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlockUpsample(hyper, 2 * channels),
        *_hyper_stage(blocks, channels),
        subpel_conv3x3(2 * channels, latents, 2),
    )


def build(
    config: Sequence[int] = (2, 2, 2, 2, 2, 2),
    head_dim: Sequence[int] = (8, 16, 32, 32, 16, 8),
    drop_path_rate: float = 0.0,
    N: int = 128,  # noqa: N803
    M: int = 320,  # noqa: N803
    num_slices: int = 5,
    max_support_slices: int = 5,
    z_channels: int = 192,
    attention_width: int = 128,
    context: Sequence[int] = (224, 128),
) -> Tcm:
    """Return an untrained network; by default the large one of the public checkpoints.

    Args:
        config: blocks of each stage, three of ``g_a`` and three of ``g_s``.
        head_dim: channels of each head, by stage.
        drop_path_rate: stochastic depth; only 0 is implemented, as in the checkpoints.
        N: half the channels of the transforms: 64 (small), 96 (middle) or 128 (large).
        M: channels of y.
        num_slices: of y.
        max_support_slices: slices that predict the next; all of them.
        z_channels: channels of z.
        attention_width: channels of the attention of the entropy model; it has eight heads.
        context: channels inside the networks of means, scales and residuals.

    Raises:
        ValueError: arguments that do not fit together or are not implemented.
    """
    if drop_path_rate or max_support_slices < num_slices:
        raise ValueError("stochastic depth and fewer support slices are not implemented")
    if M % num_slices or any(N % each for each in head_dim) or attention_width % _HEADS:
        raise ValueError(f"M={M}, N={N} cannot be divided into slices or heads")
    first, second = context
    widths = (z_channels, attention_width, (first, second))
    return Tcm(config, head_dim, N, M, num_slices, *widths).eval()


#: The names of the public checkpoints are the network's own.
load_official = load_parameters
official_state_dict = parameters
