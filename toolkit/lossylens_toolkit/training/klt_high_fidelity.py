"""HiFiC's autoencoder to begin a training with: a Karhunen-Loève transform.

See :mod:`.klt`.  Here a channel norm and a rectifier stand behind each layer, neither of
which is linear.  They become so, almost: what a norm gets is so small that its variance
does not count beside the constant that is added to it, and one channel is the others'
negative sum, so that their mean is zero; shifts lift what a rectifier gets above zero.
Only y cannot be small.  Two of its channels hold plus and minus a large number, beside
which the others do not count; they cost no bits, since their means are in the weights
that predict them.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossylens_toolkit.neural_codec.high_fidelity import EPSILON, ChannelNorm, HighFidelityNetwork
from lossylens_toolkit.training.klt import WEAK, least_squares, rows_of

#: Variance over the channels that a norm gets, as a share of its constant.
_SMALL = 0.02
#: The large numbers in y, in norms of the others over a position.
_LARGE = 4.0
#: Not the largest of all norms: one odd position would make all others small.
_NEARLY_ALL = 0.999
#: Standard deviations by which features are lifted above zero.
_LIFT = 4.0
#: Factor by which the factorised prior is narrowed, and the matrices that it is in.
_NARROW = 20.0
_MATRIX = re.compile(r"^(H_|matrices\.)\d$")
#: Crops, and the side of the window in each, that least squares are taken over.
_CROPS = 8
_WINDOW = 96
#: What a hyperbolic tangent is asked for at most.
_RANGE = 0.97


@torch.no_grad()
def begin_high_fidelity(network: HighFidelityNetwork, x: Tensor, step: float) -> None:
    """Set the weights of the transforms, and the biases of the hyperprior's.

    Args:
        network: the fewer channels a stage has, the more is lost from the beginning.
        x: pictures to take the statistics from, ``(B, 3, H, W)`` in 0..1.
        step: quantisation step, see :func:`~.klt.quantisation_step`.
    """
    analysis: Any = network.g_a
    x = x[:_CROPS]
    pictures = 2 * x - 1 if analysis.symmetric else x
    *stages, last = analysis.blocks
    before, features = [], pictures
    for conv, norm, rectifier in stages:
        _set_components(conv, features, 1)
        factor = _make_small(conv, features)
        signals = conv(features)
        _set_norm(norm, signals, factor)
        before.append(signals)
        features = rectifier(norm(signals))
    _set_components(last, features, 2)
    # Each halving makes coefficients half as large as an orthonormal transform does.
    gain = 2 ** (len(stages) - 1) / step / (2 if analysis.symmetric else 1)
    _scale(last, gain)
    _set_constants(last, last(features))
    y = last(features)
    _set_hyperprior(network, y)
    y = analysis.padding.pad(y).round()
    _set_synthesis(network.g_s, y, before, [stage[1] for stage in stages], pictures)


def _set_synthesis(
    synthesis: Any, y: Tensor, before: list[Tensor], norms: list[ChannelNorm], pictures: Tensor
) -> None:
    first, conv, norm = synthesis.block_0
    # The mean and the variance of y are those of the large numbers.
    first.gamma.fill_(torch.var(y, 1).sqrt().mean().item())
    nn.init.zeros_(first.beta)
    target = before.pop()
    normed = first(y)[..., : target.shape[-2], : target.shape[-1]]
    _solve(conv, functional.unfold(normed, 3, padding=1), target)
    copied = norms.pop()
    norm.gamma.copy_(copied.gamma)
    for block in synthesis.resid_blocks:
        zero_norm(block.sequence[4])
    head = norm(conv(normed))
    features = head + synthesis.resid_blocks(head)
    *stages, last = synthesis.blocks
    for stage in stages:
        conv, norm, _ = stage
        copied = norms.pop()
        norm.gamma.copy_(copied.gamma)
        norm.beta.copy_(copied.beta)
        _solve_transposed(conv, features, before.pop())
        features = stage(features)
    size = last.kernel_size[0]
    part = slice(0, _WINDOW + size - 1)
    inner = slice(size // 2, _WINDOW + size // 2)
    target = pictures[..., inner, inner]
    if synthesis.symmetric:
        target = target.clamp(-_RANGE, _RANGE).atanh()
    _solve(last, functional.unfold(features[..., part, part], size), target)


def zero_norm(norm: ChannelNorm) -> None:
    """Let a norm return zeros, so that a residual block is the identity."""
    nn.init.zeros_(norm.gamma)
    nn.init.zeros_(norm.beta)


# -------------------------------------------------------------------- analysis


def _set_components(conv: Any, x: Tensor, free: int) -> None:
    """Set channels to the principal components of what a stride covers; *free* stay weak."""
    stride = conv.stride[0]
    blocks = functional.unfold(x, stride, stride=stride).transpose(1, 2).flatten(0, 1).double()
    _, vectors = torch.linalg.eigh(torch.cov(blocks.T))
    components = vectors.flip(1).T[: conv.out_channels - free].float() / stride
    count = len(components)
    conv.weight *= WEAK
    conv.weight[:count] = 0
    top, left = _origin(conv)
    conv.weight[:count, :, top : top + stride, left : left + stride] = components.reshape(
        count, x.shape[1], stride, stride
    )
    nn.init.zeros_(conv.bias)
    conv.bias[:count] = -components @ blocks.mean(0).float()


def _origin(conv: Any) -> tuple[int, int]:
    """Return row and column of the kernel that lie on a stride's first position."""
    if hasattr(conv, "sides"):
        left, _, top, _ = conv.sides
    else:
        top, left = conv.padding
    # A kernel of stride 1 is set at its middle.
    return top, left


def _scale(conv: Any, factor: float) -> None:
    conv.weight *= factor
    conv.bias *= factor


def _make_small(conv: Any, x: Tensor) -> float:
    """Balance a layer's mean; scale it to what a norm takes as constant, and return the factor."""
    for values in (conv.weight, conv.bias):
        values[-1] = -values[:-1].sum(0)
    variances = torch.var(conv(x), 1).flatten()
    factor = math.sqrt(_SMALL * EPSILON / _nearly_largest(variances))
    _scale(conv, factor)
    return factor


def _nearly_largest(values: Tensor) -> float:
    return values.sort().values[int(_NEARLY_ALL * (len(values) - 1))].item()


def _set_norm(norm: ChannelNorm, signals: Tensor, factor: float) -> None:
    """Let a norm undo *factor*, and lift what it returns."""
    norm.gamma.fill_(math.sqrt(torch.var(signals, 1).mean().item() + EPSILON) / factor)
    norm.beta.copy_(_LIFT / factor * signals.std((0, 2, 3), keepdim=True))
    # What balances the mean becomes a constant, from which synthesis takes its offsets.
    norm.gamma[:, -1] *= WEAK
    norm.beta[:, -1] = norm.beta[:, 0]


def _set_constants(conv: Any, y: Tensor) -> None:
    """Let the last two channels of y be plus and minus a large number."""
    large = _LARGE * math.sqrt(_nearly_largest(y[:, :-2].square().sum(1).flatten()))
    conv.weight[-2:] = 0
    conv.bias[-2:] = torch.tensor([large, -large])


# -------------------------------------------------------------------- hyperprior


def _set_hyperprior(network: HighFidelityNetwork, y: Tensor) -> None:
    """Let means and scales begin as those of all positions."""
    means, scales = network.h_mean[-1], network.h_scale[-1]
    outputs = 1 if isinstance(means, nn.ConvTranspose2d) else 0
    for layer, wanted in ((means, y.mean((0, 2, 3))), (scales, y.std((0, 2, 3)))):
        layer.weight *= WEAK
        layer.weight.transpose(0, outputs)[-2:] = 0
        layer.bias.copy_(wanted)
    # The factorised prior begins so wide that z alone would cost what the lowest rates are.
    matrices = [
        each for name, each in network.bottleneck.named_parameters() if _MATRIX.search(name)
    ]
    for matrix in matrices:
        slope = functional.softplus(matrix) * _NARROW ** (1 / len(matrices))
        matrix.copy_(slope.expm1().log())


# -------------------------------------------------------------------- synthesis


def _solve(conv: Any, unfolded: Tensor, target: Tensor) -> None:
    """Set a convolution of stride 1 to the least-squares map to *target*."""
    weight, bias = least_squares(
        unfolded.transpose(1, 2).flatten(0, 1), rows_of(target), target.mean((0, 2, 3))
    )
    conv.weight.copy_(weight.reshape(conv.weight.shape))
    conv.bias.copy_(bias)


def _solve_transposed(conv: Any, x: Tensor, target: Tensor) -> None:
    """Set a transposed convolution of size 3: each output parity has taps of its own.

    They share one bias; what differs is a multiple of the constant feature.  Taps that
    reach over the border, where what is lifted ends, begin as zeros.
    """
    means = target.mean((0, 2, 3))
    nn.init.zeros_(conv.weight)
    for row in range(2):
        for column in range(2):
            wanted = rows_of(target[:, :, row::2, column::2])
            weight, _ = least_squares(rows_of(x), wanted, means, centred=False)
            conv.weight[:, :, 1 + row, 1 + column] = weight.T
    conv.bias.copy_(means)
