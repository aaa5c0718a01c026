"""Analysis and synthesis transforms to begin a training with: a Karhunen-Loève transform.

From random weights, the first thousands of steps are spent on finding an invertible
transform at all.  Here each layer that halves the sides of its input begins as the
Karhunen-Loève transform of its 2x2 blocks, over pictures of the training set; each
layer that doubles them begins as the least-squares inverse; and everything between
begins as (almost) the identity.  Quantised with a step chosen from the multiplier, that
is a linear transform codec of 16x16 blocks, from which the training goes on.

Jolliffe, "Principal Component Analysis", 2nd edition 2002, for the transform; the step
is where the slopes of rate and distortion of a uniform quantiser at high rate agree
(Gish and Pierce, "Asymptotically efficient quantizing", 1968).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from lossylens.errors import ConfigError
from torch import Tensor, nn
from torch.nn import functional

from lossylens_toolkit.neural_codec.compressai import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
)
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork

#: Where the gate of an attention block begins, before the sigmoid: nearly closed.
_CLOSED = -4.0
#: Bias before an activation, with which GELU is linear within a hundredth, and a leaky
#: rectifier is for as many standard deviations.
_LIFT = 3.0
#: Factor of random weights that are left.
WEAK = 0.01
#: Share of the features' mean power that is added to each in least squares.
_RIDGE = 1e-4


def quantisation_step(multiplier: float) -> float:
    """Return the step for coefficients of an orthonormal transform of pictures in 0..1.

    Args:
        multiplier: of the mean squared error on the scale of 0..255, against bits per
            pixel of three channels.
    """
    return math.sqrt(18 / (multiplier * 255**2 * math.log(2)))


@torch.no_grad()
def begin_as_klt(network: HyperpriorNetwork, x: Tensor, step: float) -> None:
    """Set the weights of a network's transforms, and let it predict no residuals yet.

    Args:
        network: its synthesis transform has as many layers that double the sides as
            there are in the analysis transform that halve them, with the same widths in
            reverse; a layer with ``begin_as_identity()`` is asked to do so, or to multiply
            by its ``identity_gain``.
        x: pictures to take the statistics from, ``(B, 3, H, W)`` in 0..1.
        step: quantisation step, see :func:`quantisation_step`.

    Raises:
        ConfigError: a layer of another kind, or widths that do not fit.
    """
    layers = list(_layers(network.g_s))
    y, before = _analysis(list(_layers(network.g_a)), x, step)
    doubling = sum(map(_doubles, layers))
    if doubling != len(before):
        raise ConfigError(
            f"the synthesis doubles the sides {doubling} times, the analysis halves them"
            f" {len(before)} times; neither can begin as a KLT"
        )
    x_hat = y.round()
    for layer in layers:
        if _doubles(layer):
            _set_doubling(layer, x_hat, before.pop())
        else:
            _quieten(layer)
        x_hat = layer(x_hat)
    for prediction in network.residual_predictions():
        *_, last = _layers(prediction)
        _zero(last)


def _analysis(layers: list[nn.Module], x: Tensor, step: float) -> tuple[Tensor, list[Tensor]]:
    """Set the analysis to the KLT of *x*, layer by layer.

    Returns:
        Latents ``(B, M, H / 2**n, W / 2**n)``, and the input of each of the *n* layers that
        halve the sides, the first first: what the synthesis is to invert.
    """
    halving = [layer for layer in layers if _halves(layer)]
    # What residual blocks with an identity too many multiply by.
    beside = math.prod(getattr(layer, "identity_gain", 1.0) for layer in layers)
    before = []
    for layer in layers:
        if _halves(layer):
            before.append(x)
            # Each halving makes coefficients half as large as an orthonormal one does.
            gain = 2 ** len(halving) / (step * beside) if layer is halving[-1] else 1.0
            _set_halving(layer, x, gain)
        else:
            _quieten(layer)
        x = layer(x)
    return x, before


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.Sequential) and not _doubles(module):
        for child in module:
            yield from _layers(child)
    else:
        yield module


def _halves(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.stride == (2, 2)
    return isinstance(layer, ResidualBlockWithStride)


def _doubles(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Sequential):
        return len(layer) == 2 and isinstance(layer[1], nn.PixelShuffle)
    return isinstance(layer, (nn.ConvTranspose2d, ResidualBlockUpsample))


def _quieten(layer: Any) -> None:
    """Make a layer begin as almost the identity, with gradients that are not zero."""
    if isinstance(layer, ResidualBlock):
        _zero(layer.conv2)
    elif isinstance(layer, ResidualBottleneckBlock):
        _zero(layer.conv3)
    elif isinstance(layer, AttentionBlock):
        _zero(layer.conv_b[-1])
        nn.init.constant_(layer.conv_b[-1].bias, _CLOSED)
    elif hasattr(layer, "begin_as_identity"):
        layer.begin_as_identity()
    else:
        raise ConfigError(f"a transform with {type(layer).__name__} cannot begin as a KLT")


def _zero(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


# -------------------------------------------------------------------- analysis


def _set_halving(layer: Any, x: Tensor, gain: float) -> None:
    """Set a layer that halves the sides of *x* ``(B, C, H, W)``.

    A residual block loses its skip connection.  Its first convolution is the transform,
    lifted to where the activation is nearly linear; the second, whose taps but the middle
    are zero, takes the activation's effect back by least squares.
    """
    if isinstance(layer, nn.Conv2d):
        _set_convolution(layer, x, gain)
        return
    _zero(layer.skip)
    _set_convolution(layer.conv1, x, gain)
    z = layer.conv1(x)
    smooth = isinstance(layer.leaky_relu, nn.GELU)
    layer.conv1.bias += _LIFT * (1 if smooth else z.std((0, 2, 3)))
    lifted = layer.leaky_relu(layer.conv1(x))
    means = z.mean((0, 2, 3))
    weight, bias = least_squares(rows_of(lifted), rows_of(z), means)
    _zero(layer.conv2)
    middle = layer.conv2.kernel_size[0] // 2
    layer.conv2.weight[:, :, middle, middle] = weight
    layer.conv2.bias.copy_(bias)


def _set_convolution(layer: Any, x: Tensor, gain: float) -> None:
    """Set the first channels to the principal components of 2x2 blocks, halved.

    Args:
        layer: a convolution at stride 2, of size 3 or 5.
        x: its input, ``(B, C, H, W)``.
        gain: of the components.
    """
    blocks = functional.unfold(x, 2, stride=2)  # (B, 4 * C, H / 2 * W / 2)
    blocks = blocks.transpose(1, 2).flatten(0, 1).double()  # (blocks, 4 * C)
    mean = blocks.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov(blocks.T))  # in columns, the strongest last
    components = vectors.flip(1).T[: layer.out_channels].float() * gain / 2  # (count, 4 * C)
    count, middle = len(components), layer.kernel_size[0] // 2
    # Channels beyond the components stay random, since zeros would stay zeros, but so weak
    # that they do not count among the components of the next layer.
    layer.weight *= WEAK
    layer.bias *= WEAK
    layer.weight[:count] = 0
    layer.weight[:count, :, middle : middle + 2, middle : middle + 2] = components.reshape(
        count, x.shape[1], 2, 2
    )
    layer.bias[:count] = -components @ mean.float()


# -------------------------------------------------------------------- synthesis


def _set_doubling(layer: Any, x: Tensor, target: Tensor) -> None:
    """Set a layer that doubles the sides of *x* ``(B, C, H, W)``.

    Args:
        layer: it loses its skip connection, if it has one.
        x: its input.
        target: what should come of it, ``(B, K, 2 * H, 2 * W)``.
    """
    if isinstance(layer, ResidualBlockUpsample):
        _zero(layer.conv)
        layer = layer.upsample
    if isinstance(layer, nn.ConvTranspose2d):
        _set_transposed(layer, x, target)
    else:
        _set_shuffled(layer[0], x, target)


def _neighbourhoods(x: Tensor) -> Tensor:
    """Return the 3x3 neighbourhood of each position, ``(B, C, 3, 3, H * W)``."""
    return functional.unfold(x, 3, padding=1).unflatten(1, (x.shape[1], 3, 3))


def _set_shuffled(layer: Any, x: Tensor, target: Tensor) -> None:
    """Set a 3x3 convolution, ``(4 * K, C, 3, 3)``, before a pixel shuffle."""
    features = _features(_neighbourhoods(x))
    unshuffled = functional.pixel_unshuffle(target, 2)  # (B, 4 * K, H, W)
    _check(layer.out_channels, unshuffled.shape[1])
    means = target.mean((0, 2, 3)).repeat_interleave(4)
    weight, bias = least_squares(features, rows_of(unshuffled), means, centred=False)
    layer.weight.copy_(weight.reshape(layer.weight.shape))
    layer.bias.copy_(bias)


def _features(around: Tensor) -> Tensor:
    """Return what is around each position as a vector: ``(B * H * W, C * taps)``.

    Args:
        around: ``(B, C, rows, columns, H * W)``.
    """
    return around.flatten(1, 3).transpose(1, 2).flatten(0, 1)


#: Along one side, by size of the kernel and parity of the output: where in the 3x3
#: neighbourhood of an input lies what a transposed convolution takes, and by which of its taps.
_TAPS = {
    3: (([1], [1]), ([1, 2], [2, 0])),
    5: (([0, 1, 2], [4, 2, 0]), ([1, 2], [3, 1])),
}


def _set_transposed(layer: Any, x: Tensor, target: Tensor) -> None:
    """Set a transposed convolution ``(C, K, k, k)``: each output parity has taps of its own."""
    size = layer.kernel_size[0]
    if size not in _TAPS or layer.kernel_size != (size, size):
        raise ConfigError("a transposed convolution not of size 3 or 5 cannot begin as a KLT")
    _check(layer.out_channels, target.shape[1])
    around = _neighbourhoods(x)
    means = target.mean((0, 2, 3))
    for row, (rows, row_taps) in enumerate(_TAPS[size]):
        for column, (columns, column_taps) in enumerate(_TAPS[size]):
            features = _features(around[:, :, rows][:, :, :, columns])
            wanted = rows_of(target[:, :, row::2, column::2])
            weight, _ = least_squares(features, wanted, means, centred=False)
            weight = weight.reshape(-1, x.shape[1], len(rows), len(columns)).transpose(0, 1)
            for place, tap in enumerate(row_taps):
                layer.weight[:, :, tap, column_taps] = weight[:, :, place]
    layer.bias.copy_(means)


def _check(have: int, want: int) -> None:
    if have != want:
        raise ConfigError(f"a synthesis with {have} channels for {want} cannot begin as a KLT")


def rows_of(x: Tensor) -> Tensor:
    """Return the vector of each position, ``(B * H * W, C)``."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def least_squares(
    features: Tensor, target: Tensor, means: Tensor, centred: bool = True
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the linear map to *target*, whose mean is *means*.

    Args:
        features: ``(N, F)``.
        target: ``(N, K)``.
        means: ``(K,)``.
        centred: whether the features' mean is taken off first, so that the bias is exact.

    Returns:
        ``(K, F)`` and ``(K,)``.
    """
    features, wanted = features.double(), (target - means).double()
    offset = features.mean(0) if centred else torch.zeros_like(features[0])
    features = features - offset
    power = features.T @ features
    power += _RIDGE * power.diagonal().mean() * torch.eye(len(power), dtype=power.dtype)
    weight = torch.linalg.solve(power, features.T @ wanted).T
    return weight.float(), (means.double() - weight @ offset).float()
