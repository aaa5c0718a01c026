"""The DCAE network of the public checkpoints.

Lu et al., "Learned Image Compression with Dictionary-based Entropy Model", CVPR 2025,
arXiv:2504.00496.  Names of submodules are those of the public checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lossylens_toolkit.neural_codec.channelwise_network import ChannelwiseNetwork
from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters
from lossylens_toolkit.neural_codec.coding import Coder
from lossylens_toolkit.neural_codec.compressai import EntropyBottleneck, GaussianConditional
from torch import Tensor, nn

from lossylens_codec_dcae.blocks import Stage, doubling, down, halving, up
from lossylens_codec_dcae.dictionary import DictionaryAttention

_WINDOW = 8
_HYPER_WINDOW = 4


class Dcae(ChannelwiseNetwork):
    """DCAE; see :func:`build` for the arguments."""

    def __init__(
        self,
        head_dim: Sequence[int],
        N: int,  # noqa: N803
        M: int,  # noqa: N803
        num_slices: int,
        features: Sequence[int],
        blocks: Sequence[int],
        z_channels: int,
        hyper_head_dim: int,
        dictionary: tuple[int, int, int],
        context: tuple[int, int],
    ) -> None:
        super().__init__()
        self.slices, self.latent_channels = num_slices, M
        sizes = zip(
            [*features, *reversed(features)], head_dim, [*blocks, *reversed(blocks)], strict=True
        )
        stages = [Stage(width, head, _WINDOW, count) for width, head, count in sizes]
        f1, f2, f3 = features
        self.g_a = nn.Sequential(
            down(3, f1), stages[0], down(f1, f2), stages[1], down(f2, f3), stages[2], halving(f3, M)
        )
        self.g_s = nn.Sequential(
            doubling(M, f3), stages[3], up(f3, f2), stages[4], up(f2, f1), stages[5], up(f1, 3)
        )
        # Where a stage of stride 2 ends in g_a; where one begins in g_s.
        self.analysis_stages = {1: f1, 3: f2, 5: f3, 6: M}
        self.synthesis_stages = {0: M, 2: f3, 4: f2, 6: f1}
        self.h_a = nn.Sequential(
            down(M, N), Stage(N, hyper_head_dim, _HYPER_WINDOW, 1), halving(N, z_channels, 3)
        )
        self.h_z_s1, self.h_z_s2 = (
            nn.Sequential(
                doubling(z_channels, N, 3), Stage(N, hyper_head_dim, _HYPER_WINDOW, 1), up(N, M)
            )
            for _ in range(2)
        )
        entries, heads, head_width = dictionary
        self.dt = nn.Parameter(torch.randn(entries, heads * head_width))
        width = M // num_slices
        queries = [2 * M + width * i for i in range(num_slices)]
        self.dt_cross_attention = nn.ModuleList(
            DictionaryAttention(each, M, heads, head_width) for each in queries
        )
        self.build_slices([each + M for each in queries], width, context)
        self.entropy_bottleneck = EntropyBottleneck(z_channels)
        self.gaussian_conditional = GaussianConditional(None)

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base; scales come first, then means."""
        return torch.cat([self.h_z_s1(z_hat), self.h_z_s2(z_hat)], 1)

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base; the dictionary itself is taken to the type of what is looked up."""
        return [
            self.h_z_s1,
            self.h_z_s2,
            self.dt_cross_attention,
            self.cc_mean_transforms,
            self.cc_scale_transforms,
            self.lrp_transforms,
        ]

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: slice by slice, each predicted from all slices before it."""
        entries = self.dt.to(side.dtype)
        done: list[Tensor] = []
        for i, part in enumerate(self.parts(y)):
            query = torch.cat([side, *done], 1)
            known = torch.cat([query, self.dt_cross_attention[i](query, entries)], 1)
            done.append(self.code_slice(i, coder, part, known, known))
        return torch.cat(done, 1)


def build(
    head_dim: Sequence[int] = (8, 16, 32, 32, 16, 8),
    drop_path_rate: float = 0.0,
    N: int = 192,  # noqa: N803
    M: int = 320,  # noqa: N803
    num_slices: int = 5,
    max_support_slices: int = 5,
    features: Sequence[int] = (96, 144, 256),
    blocks: Sequence[int] = (1, 2, 12),
    z_channels: int = 192,
    hyper_head_dim: int = 32,
    dictionary: Sequence[int] = (128, 20, 32),
    context: Sequence[int] = (224, 128),
) -> Dcae:
    """Return an untrained network; by default that of the public checkpoints.

    Args:
        head_dim: channels of each head, by stage, three of ``g_a`` and three of ``g_s``.
        drop_path_rate: of no effect, as in the public code, whose blocks all have none.
        N: channels of the hyper transforms.
        M: channels of y.
        num_slices: of y.
        max_support_slices: slices that predict the next; all of them, or negative, which
            means the same.
        features: channels of the three stages of ``g_a``; ``g_s`` mirrors them.
        blocks: of the three stages.
        z_channels: channels of z.
        hyper_head_dim: channels of each head in the hyper transforms.
        dictionary: its entries, the heads that look into it, and channels of each head.
        context: channels inside the networks of means, scales and residuals.

    Raises:
        ValueError: arguments that do not fit together or are not implemented.
    """
    if 0 <= max_support_slices < num_slices:
        raise ValueError("fewer support slices than slices are not implemented")
    if M % num_slices:
        raise ValueError(f"{M} channels cannot be divided into {num_slices} slices")
    if len(head_dim) != 2 * len(features) or len(features) != len(blocks):
        raise ValueError("head_dim is given for six stages, features and blocks for three")
    entries, heads, width = dictionary
    first, second = context
    return Dcae(
        head_dim,
        N,
        M,
        num_slices,
        features,
        blocks,
        z_channels,
        hyper_head_dim,
        (entries, heads, width),
        (first, second),
    ).eval()


#: The names of the public checkpoints are the network's own.
load_official = load_parameters
official_state_dict = parameters
