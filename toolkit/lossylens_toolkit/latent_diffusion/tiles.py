"""Large pictures in tiles: UNet and VAE with bounded memory.

The tiles and their weights are those of StableCodec's official code, which has the UNet's
from Álvaro Barbero Jiménez, "Mixture of Diffusers for scene composition and high resolution
image generation", arXiv:2302.02412, and the VAE's from the tiled VAE of pkuliyi2015.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Variance of the weights of a tile, as a part of its size squared.
_VARIANCE = 0.01

#: Bytes of intermediate features that may be held while statistics are gathered.
HELD = 2 * 2**30


@dataclass(frozen=True)
class UNetTiles:
    """Overlapping square tiles for the UNet.

    Attributes:
        size: side of a tile, in latents.
        overlap: of neighbours.
        above: area up to which latents are not tiled.
    """

    size: int = 96
    overlap: int = 32
    above: int = 96 * 96

    def apply(self, function: Callable[[slice, slice], Tensor], height: int, width: int) -> Tensor:
        """Return what *function* returns for all latents, or blended for tiles of them.

        Args:
            function: rows and columns to ``(1, C, rows, columns)``.
            height: of the latents.
            width: of the latents.
        """
        if height * width <= self.above:
            return function(slice(0, height), slice(0, width))
        side = min(self.size, height, width)
        total: Tensor | None = None
        weights: Tensor | None = None
        for top in self._starts(height, side):
            for left in self._starts(width, side):
                rows, columns = slice(top, top + side), slice(left, left + side)
                part = function(rows, columns)
                weight = _gaussian(side, part)
                if total is None or weights is None:
                    total = part.new_zeros(*part.shape[:2], height, width, dtype=weight.dtype)
                    weights = weight.new_zeros(height, width)
                total[..., rows, columns] += part * weight
                weights[rows, columns] += weight
        assert total is not None
        assert weights is not None
        return total / weights

    def _starts(self, length: int, side: int) -> list[int]:
        """Return where tiles start; the last is flush with the border."""
        # Pictures that are narrower than the overlap would not get on otherwise.
        step = side - min(self.overlap, side // 2)
        count = max(1, math.ceil((length - side) / step) + 1)
        return [min(i * step, length - side) for i in range(count)]


def _gaussian(side: int, like: Tensor) -> Tensor:
    positions = torch.arange(side, dtype=torch.float64)

    def bell(middle: float) -> Tensor:
        distances = (positions - middle) / side
        return torch.exp(-distances.square() / (2 * _VARIANCE))

    return (bell(side / 2)[:, None] * bell((side - 1) / 2)).to(like.device, torch.float32)


@dataclass(frozen=True)
class VaeTiles:
    """Tiles for an encoder or decoder of the VAE, all of which are computed in step.

    At every group norm the statistics are means over tiles, weighted by their area, of each
    tile's mean and variance, borders included.

    Attributes:
        size: of the inner part of a tile, along a side, in positions of the input.
        border: around it.
        held: bytes of features that are held at a group norm; what would take more is
            computed once again from where less was held.
    """

    size: int
    border: int
    held: int = HELD

    def needed(self, height: int, width: int) -> bool:
        """Return whether an input of this size is tiled."""
        return max(height, width) > self.size + 2 * self.border

    def apply(self, steps: Sequence[_Step], x: Tensor, scale: float) -> Tensor:
        """Return what *steps* make of *x* ``(1, C, H, W)``, *scale* times as large."""
        height, width = x.shape[-2:]
        spans = [(rows, columns) for rows in self._spans(height) for columns in self._spans(width)]
        inputs = [(rows.outer, columns.outer) for rows, columns in spans]
        result: Tensor | None = None
        for (rows, columns), part in zip(spans, _in_step(steps, x, inputs, self.held), strict=True):
            if result is None:
                size = round(height * scale), round(width * scale)
                result = part.new_empty(*part.shape[:2], *size)
            to, of = zip(rows.scaled(scale), columns.scaled(scale), strict=True)
            result[..., to[0], to[1]] = part[..., of[0], of[1]]
        assert result is not None
        return result

    def _spans(self, length: int) -> list[_Span]:
        inner = length - 2 * self.border
        count = max(1, math.ceil(inner / self.size))
        step = _rounded_up(math.ceil(inner / count), self.size)
        spans = []
        for i in range(count):
            start = self.border + i * step
            end = min(start + step, length)
            outer = slice(max(0, start - self.border), min(length, end + self.border))
            core = slice(
                start if start > self.border else 0, end if end < length - self.border else length
            )
            spans.append(_Span(outer, core))
        return spans


def _rounded_up(step: int, most: int) -> int:
    """Return *step* raised to a multiple of 32, or a smaller power of two if that is too much."""
    for divisor in (32, 16, 8, 4, 2):
        raised = math.ceil(step / divisor) * divisor
        if raised <= most or raised == step:
            return raised
    return step


@dataclass(frozen=True)
class _Span:
    """A tile along one axis: what goes in, and the part of what comes out that is kept."""

    outer: slice
    core: slice

    def scaled(self, scale: float) -> tuple[slice, slice]:
        """Return where the core lies in the output, and in the output of the tile."""
        start, end = round(self.core.start * scale), round(self.core.stop * scale)
        offset = round(self.outer.start * scale)
        return slice(start, end), slice(start - offset, end - offset)


@dataclass(frozen=True)
class _Step:
    """One step of a network that is a chain with skips.

    Attributes:
        kind: ``apply``; ``norm``, of a group norm; ``push``, which puts the features aside;
            ``add``, which adds to them what was put aside last.
        module: what is applied; at ``add``, to what was put aside.
    """

    kind: str
    module: Callable[[Tensor], Tensor] = field(default=lambda x: x)


def encoder_steps(encoder: Any, last: bool = True) -> list[_Step]:
    """Return the steps of the VAE's encoder, with or without its last convolution."""
    steps = [_Step("apply", encoder.conv_in)]
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            steps += _resnet(resnet)
        steps += [_Step("apply", halve) for halve in block.downsamplers or ()]
    steps += [*_middle(encoder.mid_block), *_activated(encoder.conv_norm_out)]
    return [*steps, _Step("apply", encoder.conv_out)] if last else steps


def decoder_steps(decoder: Any) -> list[_Step]:
    """Return the steps of the VAE's decoder."""
    steps = [_Step("apply", decoder.conv_in), *_middle(decoder.mid_block)]
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            steps += _resnet(resnet)
        steps += [_Step("apply", double) for double in block.upsamplers or ()]
    return [*steps, *_activated(decoder.conv_norm_out), _Step("apply", decoder.conv_out)]


def run(steps: Sequence[_Step], x: Tensor) -> Tensor:
    """Return what *steps* make of *x*, without tiles."""
    return next(_in_step(steps, x, [(slice(None), slice(None))], HELD))


def _activated(norm: nn.Module) -> list[_Step]:
    return [_Step("norm", norm), _Step("apply", functional.silu)]


def _resnet(resnet: Any) -> list[_Step]:
    first = [_Step("push"), *_activated(resnet.norm1), _Step("apply", resnet.conv1)]
    second = [*_activated(resnet.norm2), _Step("apply", resnet.conv2)]
    skip = _Step("add", resnet.conv_shortcut) if resnet.conv_shortcut else _Step("add")
    return [*first, *second, skip]


def _middle(block: Any) -> list[_Step]:
    first, *others = block.resnets
    steps = _resnet(first)
    for attention, resnet in zip(block.attentions, others, strict=True):
        norm = _Step("norm", attention.group_norm)
        attend = _Step("apply", functools.partial(_attend, attention))
        steps += [_Step("push"), norm, attend, _Step("add"), *_resnet(resnet)]
    return steps


def _attend(attention: Any, x: Tensor) -> Tensor:
    """Return the self-attention of one head, without norm and skip."""
    tokens = x.flatten(2).transpose(1, 2)
    query, key, value = attention.to_q(tokens), attention.to_k(tokens), attention.to_v(tokens)
    out = functional.scaled_dot_product_attention(query, key, value)
    return attention.to_out[0](out).transpose(1, 2).reshape(x.shape)


@dataclass(frozen=True)
class _State:
    """Where a tile is in a chain of steps."""

    position: int
    x: Tensor
    aside: tuple[Tensor, ...] = ()

    @property
    def bytes(self) -> int:
        """Of its tensors."""
        distinct = {id(each): each for each in (self.x, *self.aside)}
        return sum(each.numel() * each.element_size() for each in distinct.values())


Statistics = dict[int, tuple[Tensor, Tensor]]


def _in_step(
    steps: Sequence[_Step], x: Tensor, parts: Sequence[tuple[slice, slice]], held: int
) -> Iterator[Tensor]:
    """Yield what *steps* make of each part of *x*, with statistics over all parts."""
    states = [_State(0, x[..., rows, columns]) for rows, columns in parts]
    areas = [float(state.x.shape[-2] * state.x.shape[-1]) for state in states]
    statistics: Statistics = {}
    for position, step in enumerate(steps):
        if step.kind != "norm":
            continue
        pooled: tuple[Tensor, Tensor] | None = None
        hold = True
        for i, area in enumerate(areas):
            state = _advance(steps, states[i], position, statistics)
            weight = area / sum(areas)
            mean, variance = (weight * each for each in _moments(state.x, step.module))
            pooled = (
                (mean, variance) if pooled is None else (pooled[0] + mean, pooled[1] + variance)
            )
            hold = hold and state.bytes / weight <= held
            if hold or len(parts) == 1:
                states[i] = state
        assert pooled is not None
        statistics[position] = pooled
    for i in range(len(states)):
        yield _advance(steps, states[i], len(steps), statistics).x
        states[i] = _State(len(steps), x[..., :0, :0])


def _advance(steps: Sequence[_Step], state: _State, end: int, statistics: Statistics) -> _State:
    x, aside = state.x, list(state.aside)
    for position in range(state.position, end):
        step = steps[position]
        if step.kind == "push":
            aside.append(x)
        elif step.kind == "add":
            x = step.module(aside.pop()) + x
        elif step.kind == "norm":
            x = _normalised(x, step.module, *statistics[position])
        else:
            x = step.module(x)
    return _State(end, x, tuple(aside))


def _grouped(x: Tensor, norm: Any) -> Tensor:
    return x.reshape(1, norm.num_groups, -1, *x.shape[-2:])


def _moments(x: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each group."""
    variance, mean = torch.var_mean(_grouped(x, norm).float(), (2, 3, 4), correction=0)
    return mean, variance


def _normalised(x: Tensor, norm: Any, mean: Tensor, variance: Tensor) -> Tensor:
    spread = (variance + norm.eps).rsqrt()[:, :, None].expand(1, -1, x.shape[1] // norm.num_groups)
    factor = norm.weight.float() * spread.reshape(-1)
    means = mean[:, :, None].expand_as(spread).reshape(-1)
    shift = norm.bias.float() - means * factor
    shape = (1, -1, 1, 1)
    return x * factor.to(x.dtype).reshape(shape) + shift.to(x.dtype).reshape(shape)
