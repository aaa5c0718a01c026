"""Faster convolutions in float64, for inference on a CPU.

Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR 2016): tiles of 4x4 outputs are computed from transformed tiles
with 36 instead of 144 multiplications for a kernel of 3x3, 64 instead of 400 for one
of 5x5.  In float64, for which processors have no better algorithm, this is two to four
times faster and exact to about 1e-14.  In float32 it gains little and loses two bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

#: Outputs along each side of a tile.
_OUT = 4
#: Points of interpolation beside infinity, by the size of the kernel.
_POINTS = {3: (0.0, 1.0, -1.0, 2.0, -2.0), 5: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)}
#: Numbers that a strip of transformed tiles may have, so that they stay in the cache.
_STRIP = 2**20
#: Below these, they cost more than they save: channels of input and of output, and
#: positions of the input; the latter also where a kernel, transformed, has more numbers
#: than caches and the allocator's heap take.
_CHANNELS = 16
_POSITIONS = 256
_POSITIONS_OF_LARGE = 1024
_LARGE = 2**22


class Winograd(TorchFunctionMode):
    """Within this context, convolutions that gain by it are computed this way.

    They are those of 3x3 and 5x5 at stride 1, and of 5x5 at stride 2, transposed or not,
    in float64 on a CPU; the others are computed as ever.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See :class:`torch.overrides.TorchFunctionMode`."""
        replacement = _REPLACEMENTS.get(func)
        result = replacement(*args, **(kwargs or {})) if replacement else None
        return func(*args, **(kwargs or {})) if result is None else result


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """Return ``conv2d(x, weight, bias, padding=padding)`` for a kernel of 3x3 or 5x5.

    The shapes below name a tile's inputs ``t`` a side (6 or 8), its outputs ``o`` (4), and
    the tiles of the picture ``rows`` by ``columns``.

    Args:
        x: ``(B, C, H, W)``.
        weight: ``(K, C, k, k)``.
        bias: ``(K,)``, or None.
        padding: zeros on each side, at most the kernel's half.

    Returns:
        ``(B, K, H + 2 * padding - k + 1, W + 2 * padding - k + 1)``.
    """
    batch, channels = x.shape[:2]
    outputs, _, size, _ = weight.shape
    height, width = (side + 2 * padding - size + 1 for side in x.shape[2:])
    rows, columns = -(-height // _OUT), -(-width // _OUT)
    numbers = _tile(size) ** 2
    to_outputs, from_kernel, from_inputs = _transforms(size)
    kernels = from_kernel @ weight.reshape(-1, size**2).T  # (t * t, K * C)
    kernels = kernels.reshape(numbers, outputs, channels).transpose(1, 2)
    result = x.new_empty(batch, height, width, outputs)
    step = max(1, _STRIP // (numbers * columns * max(channels, outputs) * batch))
    for first in range(0, rows, step):
        count = min(step, rows - first)
        tiles = _tiles(x, first, count, columns, size, padding)  # (t * t, B * count * columns * C)
        transformed = (from_inputs @ tiles).reshape(numbers, -1, channels)
        products = torch.bmm(transformed, kernels)  # (t * t, B * count * columns, K)
        values = to_outputs @ products.reshape(numbers, -1)  # (o * o, B * count * columns * K)
        values = values.reshape(_OUT, _OUT, batch, count, columns, outputs)
        values = values.permute(2, 3, 0, 4, 1, 5).reshape(batch, count * _OUT, -1, outputs)
        part = result[:, first * _OUT : (first + count) * _OUT]  # cut off below, as the width is
        part.copy_(values[:, : part.shape[1], :width])
    if bias is not None:
        result += bias
    return result.permute(0, 3, 1, 2)


def _tile(size: int) -> int:
    """Return the side of a tile of inputs, for kernels of *size*."""
    return _OUT + size - 1


def _tiles(x: Tensor, first: int, count: int, columns: int, size: int, padding: int) -> Tensor:
    """Return the inputs of *count* rows of tiles from row *first* on.

    Returns:
        ``(t * t, B * count * columns * C)``, zeros where a tile leaves the picture.
    """
    top = first * _OUT - padding
    bottom = top + (count - 1) * _OUT + _tile(size)
    right = (columns - 1) * _OUT + _tile(size) - padding
    strip = x[:, :, max(top, 0) : bottom].permute(0, 2, 3, 1)
    below = max(bottom - x.shape[2], 0)
    padded = functional.pad(strip, (0, 0, padding, right - x.shape[3], max(-top, 0), below))
    tiles = padded.unfold(1, _tile(size), _OUT).unfold(2, _tile(size), _OUT)
    return tiles.permute(4, 5, 0, 1, 2, 3).reshape(_tile(size) ** 2, -1)


@functools.cache
@torch.inference_mode(False)  # they may be needed for a gradient later
def _transforms(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices to outputs, from a kernel and from inputs, for whole tiles.

    They evaluate polynomials at the points (Toom and Cook), transposed; rows are scaled
    by powers of two, so that kernels and inputs lose alike.

    Returns:
        ``(o * o, t * t)``, ``(t * t, k * k)`` and ``(t * t, t * t)``: Kronecker products,
        because a tile is transformed along both sides.
    """
    points = torch.tensor(_POINTS[size], dtype=torch.float64)

    def at_points(terms: int) -> Tensor:
        """Return the powers of each point, and the highest alone for infinity: ``(t, terms)``."""
        infinity = functional.one_hot(torch.tensor([terms - 1]), terms)
        return torch.cat([points[:, None] ** torch.arange(terms), infinity])

    inputs, kernel = torch.linalg.inv(at_points(_tile(size))).T, at_points(size)
    balance = (inputs.abs().sum(1) / kernel.abs().sum(1)).log2().div(2).round().exp2()[:, None]
    matrices = (at_points(_OUT).T, kernel * balance, inputs / balance)
    outputs, kernel, inputs = (torch.kron(each, each) for each in matrices)
    return outputs, kernel, inputs


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution, or None if it does not gain."""
    size = weight.shape[-1]
    fits = size in _POINTS and weight.shape[-2] == size and x.ndim == 4 and groups == 1
    if not fits or not _is(dilation, 1) or not _large(x, weight):
        return None
    same, few = _is(padding, size // 2), len(weight) < _CHANNELS
    if few:
        return _few_outputs(x, weight, bias) if same and _is(stride, 1) else None
    if weight.shape[1] < _CHANNELS:
        return None
    if _is(stride, 1) and (same or _is(padding, 0)):
        return convolve(x, weight, bias, size // 2 if same else 0)
    even = all(side % 2 == 0 for side in x.shape[-2:])
    if _is(stride, 2) and size == 5 and same and even:
        return _halving(x, weight, bias)
    return None


def _few_outputs(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution for a kernel of few outputs.

    As a transposed one it multiplies before it shifts, which moves few channels around
    instead of many.
    """
    transposed = weight.transpose(0, 1).flip(2, 3)
    return functional.conv_transpose2d(x, transposed, bias, padding=weight.shape[-1] // 2)


def _halving(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution of 5x5 at stride 2: one of 3x3 of the input's four phases.

    Args:
        x: ``(B, C, H, W)`` with even sides; its phases are ``(B, 4 * C, H / 2, W / 2)``.
        weight: ``(K, C, 5, 5)``; with a zero row and column it splits into four of 3x3.
        bias: ``(K,)``, or None.
    """
    outputs, inputs = weight.shape[:2]
    phases = functional.pad(weight, (0, 1, 0, 1)).reshape(outputs, inputs, 3, 2, 3, 2)
    kernels = phases.permute(0, 1, 3, 5, 2, 4).reshape(outputs, 4 * inputs, 3, 3)
    return convolve(functional.pixel_unshuffle(x, 2), kernels, bias, 1)


def _conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor | None:
    """Return the transposed convolution, or None if it does not gain.

    Each of the four phases of the output is a convolution of 3x3 of the input: of
    ``(B, C, H, W)`` and ``(C, K, 5, 5)``, ``(B, 4 * K, H, W)`` before they are interleaved.
    """
    fits = weight.shape[-2:] == (5, 5) and x.ndim == 4 and groups == 1 and _is(dilation, 1)
    if not fits or not (_is(stride, 2) and _is(padding, 2) and _is(output_padding, 1)):
        return None
    if not _large(x, weight) or min(weight.shape[:2]) < _CHANNELS:
        return None
    inputs, outputs = weight.shape[:2]
    phases = functional.pad(weight, (0, 1, 0, 1)).reshape(inputs, outputs, 3, 2, 3, 2)
    kernels = phases.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
    biases = None if bias is None else bias.repeat_interleave(4)
    return functional.pixel_shuffle(convolve(x, kernels, biases, 1), 2)


def _is(value: Any, expected: int) -> bool:
    return value == expected or (isinstance(value, tuple | list) and set(value) == {expected})


def _large(x: Tensor, weight: Tensor) -> bool:
    transformed = weight.shape[0] * weight.shape[1] * _tile(weight.shape[-1]) ** 2
    least = _POSITIONS if transformed < _LARGE else _POSITIONS_OF_LARGE
    size = x.shape[-2] * x.shape[-1]
    return x.dtype == torch.float64 and x.device.type == "cpu" and size >= least


_REPLACEMENTS: Mapping[Any, Callable[..., Tensor | None]] = {
    torch.conv2d: _conv2d,
    torch.conv_transpose2d: _conv_transpose2d,
}
