"""What networks have in common that code latents in slices of channels.

Minnen and Singh, "Channel-wise autoregressive entropy models for learned image
compression", ICIP 2020, arXiv:2007.08739.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lossylens_toolkit.neural_codec.coding import Coder
from lossylens_toolkit.neural_codec.compressai import conv3x3
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork


class ChannelwiseNetwork(HyperpriorNetwork):
    """A network whose y is coded slice by slice, each predicted from those before it.

    Attributes:
        slices: how many there are.
    """

    slices: int

    def build_slices(self, known: Sequence[int], width: int, context: tuple[int, int]) -> None:
        """Make the networks of means, scales and residuals.

        Args:
            known: channels of what is known of each slice.
            width: channels of a slice.
            context: channels between the convolutions.
        """
        self.cc_mean_transforms, self.cc_scale_transforms = (
            nn.ModuleList(_slice_transform(each, context, width) for each in known)
            for _ in range(2)
        )
        self.lrp_transforms = nn.ModuleList(
            _slice_transform(each + width, context, width) for each in known
        )

    def parts(self, y: Tensor | None) -> Sequence[Tensor | None]:
        """Return the slices of *y*, which is None where they are to be decoded."""
        return [None] * self.slices if y is None else y.chunk(self.slices, 1)

    def code_slice(
        self, number: int, coder: Coder, part: Tensor | None, means: Tensor, scales: Tensor
    ) -> Tensor:
        """Code a slice, and return it with its predicted residual.

        Args:
            number: of the slice.
            coder: that codes it.
            part: the slice of y; None where it is to be decoded.
            means: what its means are predicted from, and its residual.
            scales: what its scales are predicted from.
        """
        mean = self.cc_mean_transforms[number](means)
        scale = self.cc_scale_transforms[number](scales)
        rounded = coder.code(scale, mean, part)
        residual = self.lrp_transforms[number](torch.cat([means, rounded], 1))
        return rounded + 0.5 * torch.tanh(residual)

    def residual_predictions(self) -> Sequence[nn.Module]:
        """See the base."""
        return list(self.lrp_transforms)

    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """See the base."""
        return torch.cat(list(segments), 1)


def _slice_transform(inputs: int, inside: tuple[int, int], outputs: int) -> nn.Sequential:
    """Return the network of a slice's means, scales or residual.

    Args:
        inputs: channels of what is known.
        inside: channels between the convolutions.
        outputs: channels of the slice.
    """
    first, second = inside
    return nn.Sequential(
        conv3x3(inputs, first),
        nn.GELU(),
        conv3x3(first, second),
        nn.GELU(),
        conv3x3(second, outputs),
    )
