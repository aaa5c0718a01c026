"""What networks have in common that code latents in slices of channels.

Minnen and Singh, "Channel-wise autoregressive entropy models for learned image
compression", ICIP 2020, arXiv:2007.08739.
"""

from __future__ import annotations

from torch import nn

from lossylens_toolkit.neural_codec.compressai import conv3x3


def slice_transform(inputs: int, inside: tuple[int, int], outputs: int) -> nn.Sequential:
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
