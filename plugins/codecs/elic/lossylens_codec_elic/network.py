"""The ELIC network of the public checkpoints.

He et al., "ELIC: Efficient Learned Image Compression with Unevenly Grouped
Space-Channel Contextual Adaptive Coding", CVPR 2022, arXiv:2203.10886, in the
public re-implementation by V. Chandelier, whose context model uses only the first
and the latest group of channels.  CompressAI has this network; here it gets one
stream for all latents, and computes no parameters that are not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lossylens_toolkit.neural_codec import checkerboard
from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters
from lossylens_toolkit.neural_codec.coding import Coder
from lossylens_toolkit.neural_codec.compressai import (
    Elic2022Chandelier,
    EntropyBottleneck,
    GaussianConditional,
)
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from torch import Tensor, nn
from torch.nn import functional

#: Names in the public checkpoints and in CompressAI 1.2.8.
_RENAMES = (
    (r"^(h_[as]|entropy_bottleneck)\.", r"latent_codec.hyper.\1."),
    (
        r"^cc_transforms\.(\d+)\.",
        lambda found: f"latent_codec.y.channel_context.y{int(found[1]) + 1}.",
    ),
    (r"^context_prediction\.(\d+)\.", r"latent_codec.y.latent_codec.y\1.context_prediction."),
    (r"^ParamAggregation\.(\d+)\.", r"latent_codec.y.latent_codec.y\1.entropy_parameters."),
)


class Elic(HyperpriorNetwork, Elic2022Chandelier):  # type: ignore[misc]
    """ELIC.

    Args:
        N: channels of the transforms and of z.
        M: channels of y.
        groups: channels of each group of y.
        context: channels inside the channel contexts.
        aggregation: channels inside the networks of means and scales.
    """

    def __init__(
        self,
        N: int,  # noqa: N803
        M: int,  # noqa: N803
        groups: Sequence[int],
        context: tuple[int, int],
        aggregation: tuple[int, int],
    ) -> None:
        Elic2022Chandelier.__init__(self, N=N, M=M, groups=groups)
        self.latent_channels = M
        # Where a stage of stride 2 ends in g_a; where one begins in g_s.
        self.analysis_stages = {3: N, 8: N, 12: N, 14: M}
        self.synthesis_stages = {0: M, 5: N, 10: N, 14: N}
        # CompressAI builds these two at the size of the public checkpoints.
        codec = self.latent_codec["y"]
        for k in range(1, len(groups)):
            inputs = groups[0] + (groups[k - 1] if k > 1 else 0)
            codec.channel_context[f"y{k}"] = _convolutions(inputs, context, 2 * groups[k], 5)
        for k, width in enumerate(groups):
            inputs = 2 * width * (2 if k else 1) + 2 * M
            codec[f"y{k}"].entropy_parameters = _convolutions(inputs, aggregation, 2 * width, 1)

    @property
    def bottleneck(self) -> EntropyBottleneck:
        """See the base."""
        return self.latent_codec["hyper"].entropy_bottleneck

    @property
    def gaussian(self) -> GaussianConditional:
        """See the base; the five copies are alike."""
        return self.latent_codec["y"]["y0"]["y"].gaussian_conditional

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """See the base."""
        return self.latent_codec["hyper"].h_a(y)

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base; means come first, then scales."""
        return self.latent_codec["hyper"].h_s(z_hat)

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base."""
        codec = self.latent_codec["y"]
        return [self.latent_codec["hyper"].h_s, codec.channel_context, codec.latent_codec]

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: group by group, the positions of even parity first."""
        codec = self.latent_codec["y"]
        done: list[Tensor] = []
        parts = [None] * len(self.groups) if y is None else y.split(self.groups, 1)
        for k, part in enumerate(parts):
            known = side
            if k:
                channels = torch.cat([done[0], done[-1]], 1) if k > 1 else done[0]
                known = torch.cat([codec.channel_context[f"y{k}"](channels), side], 1)
            done.append(_walk_group(codec[f"y{k}"], known, part, coder))
        return torch.cat(done, 1)

    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """See the base."""
        pairs = zip(segments[::2], segments[1::2], strict=True)
        return torch.cat([checkerboard.merge(even, odd) for even, odd in pairs], 1)


def _convolutions(inputs: int, inside: tuple[int, int], outputs: int, size: int) -> nn.Sequential:
    def layer(before: int, after: int) -> nn.Conv2d:
        return nn.Conv2d(before, after, size, padding=size // 2)

    first, second = inside
    return nn.Sequential(
        layer(inputs, first),
        nn.ReLU(inplace=True),
        layer(first, second),
        nn.ReLU(inplace=True),
        layer(second, outputs),
    )


def _walk_group(codec: Any, known: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
    """Code a group, given what is known at all positions: first even, then odd parity."""
    parts = (None, None) if y is None else checkerboard.split(y)
    even_known, odd_known = checkerboard.split(known)
    context = codec.context_prediction
    even = _code(codec, _without_context(context, even_known), parts[0], coder)
    seen = context(checkerboard.merge(even, torch.zeros_like(even)))
    odd = _code(codec, torch.cat([checkerboard.split(seen)[1], odd_known], 1), parts[1], coder)
    return checkerboard.merge(even, odd)


def _without_context(context: nn.Conv2d, known: Tensor) -> Tensor:
    return functional.pad(known, (0, 0, 0, 0, context.out_channels, 0))


def _code(codec: Any, known: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
    means, scales = codec.entropy_parameters(known).chunk(2, 1)
    return coder.code(scales, means, y)


def build(
    N: int = 192,  # noqa: N803
    M: int = 320,  # noqa: N803
    num_slices: int = 5,
    groups: Sequence[int] | None = None,
    context: Sequence[int] = (224, 128),
    aggregation: Sequence[int] = (640, 512),
) -> Elic:
    """Return an untrained network; by default of the size of the public checkpoints.

    Args:
        N: channels of the transforms and of z.
        M: channels of y.
        num_slices: number of groups; 5 unless *groups* says otherwise.
        groups: channels of each group of y; by default 16, 16, 32, 64 and the rest.
        context: channels inside the channel contexts.
        aggregation: channels inside the networks of means and scales.

    Raises:
        ValueError: the groups do not fit, or there are not two widths each.
    """
    groups = list(groups) if groups else [16, 16, 32, 64, M - 128]
    if len(groups) != num_slices or sum(groups) != M or min(groups) < 1:
        raise ValueError(f"{num_slices} groups {groups} do not make {M} channels")
    (c1, c2), (a1, a2) = context, aggregation
    return Elic(N, M, groups, (c1, c2), (a1, a2)).eval()


def load_official(
    network: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True
) -> None:
    """Load parameters in the names of the public checkpoints; see :func:`.load_parameters`."""
    load_parameters(network, state_dict, strict, rename=_rename)


def official_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of *network* in the names of the public checkpoints."""
    return {_official(name): value for name, value in parameters(network).items()}


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _official(name: str) -> str:
    name = re.sub(r"^latent_codec\.hyper\.", "", name)
    name = re.sub(
        r"^latent_codec\.y\.channel_context\.y(\d+)\.",
        lambda found: f"cc_transforms.{int(found[1]) - 1}.",
        name,
    )
    inner = r"^latent_codec\.y\.latent_codec\.y(\d+)\."
    name = re.sub(inner + r"context_prediction\.", r"context_prediction.\1.", name)
    return re.sub(inner + r"entropy_parameters\.", r"ParamAggregation.\1.", name)
