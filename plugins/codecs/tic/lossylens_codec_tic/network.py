"""The TIC networks: that of TransTIC, which has public checkpoints, and that of the paper.

Lu et al., "Transformer-based Image Compression", DCC 2022, arXiv:2111.06707; Chen et al.,
"TransTIC", ICCV 2023, arXiv:2306.05085, whose network has a hyperprior alone.  In official
names a layer is ``g_a0``; here it is ``g_a.0``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters
from lossylens_toolkit.neural_codec.coding import Coder, Likelihoods
from lossylens_toolkit.neural_codec.compressai import (
    EntropyBottleneck,
    GaussianConditional,
    quantize_ste,
)
from lossylens_toolkit.neural_codec.hyperprior_network import HyperpriorNetwork
from torch import Tensor, nn
from torch.nn import functional

from lossylens_codec_tic.attention import CausalContext, ResidualSwinBlocks
from lossylens_codec_tic.plugin import HP, SERIAL

#: Pixels of the pictures that the public networks are built for, along each side: where
#: one window covers what is left of them, none is shifted.
_NOMINAL = 256
#: By variant: how much smaller than the picture the input of each stage is, those of the
#: analysis first, then those of the hyper analysis.
STAGES = {HP: (2, 4, 8, 16, 32, 64), SERIAL: (2, 4, 8, 16, 32)}
_DEPTHS = {HP: (2, 4, 6, 2, 2, 2), SERIAL: (2, 4, 6, 2, 2)}
_HEADS = {HP: (8, 8, 8, 16, 16, 16), SERIAL: (4, 8, 16, 16, 16)}
_WINDOWS = {HP: (8, 8, 8, 8, 4, 4), SERIAL: (8, 8, 8, 4, 4)}
_MLP_RATIO = {HP: 2.0, SERIAL: 4.0}


class Tic(HyperpriorNetwork):
    """TIC with a hyperprior alone; see :func:`build` for the arguments."""

    def __init__(self, N: int, M: int, stages: Sequence[_Stage]) -> None:  # noqa: N803
        super().__init__()
        self.latent_channels = M
        a1, a2, a3, a4, h1, h2 = stages
        self.g_a = nn.Sequential(
            _halving(3, N, 5),
            a1(N),
            _halving(N, N),
            a2(N),
            _halving(N, N),
            a3(N),
            _halving(N, M),
            a4(M),
        )
        self.h_a = nn.Sequential(_halving(M, N), h1(N), _halving(N, N), h2(N))
        self.h_s = nn.Sequential(h2(N), _doubling(N, N), h1(N), _doubling(N, 2 * M))
        self.g_s = nn.Sequential(
            a4(M),
            _doubling(M, N),
            a3(N),
            _doubling(N, N),
            a2(N),
            _doubling(N, N),
            a1(N),
            _doubling(N, 3, 5),
        )
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base; scales come first, then means."""
        return self.h_s(z_hat)

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base."""
        return [self.h_s]

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: all at once."""
        scales, means = side.chunk(2, 1)
        return coder.code(scales, means, y)

    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """See the base."""
        [segment] = segments
        return segment


class SerialTic(HyperpriorNetwork):
    """TIC with a context that goes from position to position; see :func:`build`.

    As in the public code, :meth:`forward` is not what is coded: its context and its picture
    see y rounded without the means.
    """

    def __init__(
        self,
        N: int,  # noqa: N803
        M: int,  # noqa: N803
        stages: Sequence[_Stage],
        context_heads: int,
    ) -> None:
        super().__init__()
        self.latent_channels = M
        a1, a2, a3, h1, h2 = stages
        self.g_a = nn.Sequential(
            _halving(3, N, 5), a1(N), _halving(N, N), a2(N), _halving(N, N), a3(N), _halving(N, M)
        )
        self.h_a = nn.Sequential(
            nn.Conv2d(M, N, 3, padding=1), h1(N), _halving(N, N), h2(N), _halving(N, N)
        )
        self.h_s = nn.Sequential(
            _doubling(N, N), h2(N), _doubling(N, N), h1(N), nn.Conv2d(N, 2 * M, 3, padding=1)
        )
        self.g_s = nn.Sequential(
            _doubling(M, N),
            a3(N),
            _doubling(N, N),
            a2(N),
            _doubling(N, N),
            a1(N),
            _doubling(N, 3, 5),
        )
        self.context_prediction = CausalContext(M, 2 * M, context_heads)
        first, second = M * 10 // 3, M * 8 // 3
        self.entropy_parameters = nn.Sequential(
            nn.Conv2d(4 * M, first, 1),
            nn.GELU(),
            nn.Conv2d(first, second, 1),
            nn.GELU(),
            nn.Conv2d(second, 2 * M, 1),
        )
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)

    def hyper_synthesis(self, z_hat: Tensor) -> Tensor:
        """See the base."""
        return self.h_s(z_hat)

    def entropy_modules(self) -> Sequence[nn.Module]:
        """See the base."""
        return [self.h_s, self.context_prediction, self.entropy_parameters]

    def walk_forward(self, side: Tensor, y: Tensor, coder: Likelihoods) -> Tensor:
        """See the base: all positions at once, around each of which y is rounded alone."""
        batch, channels, height, width = y.shape
        rounded = quantize_ste(y)
        around = functional.unfold(rounded, CausalContext.side, padding=CausalContext.side // 2)
        around = around.reshape(batch, channels, -1, height * width)[:, :, : CausalContext.known]
        context = self.context_prediction(around.permute(0, 3, 2, 1).flatten(0, 1))
        context = context.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        scales, means = self.entropy_parameters(torch.cat([side, context], 1)).chunk(2, 1)
        coder.code(scales, means, y)
        return rounded

    def walk(self, side: Tensor, y: Tensor | None, coder: Coder) -> Tensor:
        """See the base: in waves of positions whose context is complete.

        A position's context ends two columns to the right in the row above, so that the rows
        can follow one another at a distance of three columns.
        """
        batch, _, height, width = side.shape
        reach = CausalContext.side // 2
        done = side.new_zeros(batch, self.latent_channels, height + reach, width + 2 * reach)
        for rows, columns in _waves(height, width, side.device):
            context = self.context_prediction(_before(done, rows, columns))
            context = context.reshape(batch, len(rows), -1).transpose(1, 2)
            known = torch.cat([side[:, :, rows, columns], context], 1)[..., None]
            scales, means = self.entropy_parameters(known).chunk(2, 1)
            part = None if y is None else y[:, :, rows, columns][..., None]
            rounded = coder.code(scales, means, part)
            done[:, :, rows + reach, columns + reach] = rounded[..., 0]
        return done[:, :, reach:, reach:-reach]

    def in_channel_order(self, segments: Sequence[Tensor]) -> Tensor:
        """See the base; :meth:`walk_forward` has one segment."""
        [segment] = segments
        return segment


def _waves(height: int, width: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows and columns of the positions that can be coded together, in turn."""
    lag = CausalContext.side // 2 + 1
    for time in range(width + lag * (height - 1)):
        rows = torch.arange(height, device=device)
        columns = time - lag * rows
        inside = (columns >= 0) & (columns < width)
        yield rows[inside], columns[inside]


def _before(done: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return what comes before positions, ``(B * N, 12, C)``; see :class:`CausalContext`.

    Args:
        done: ``(B, C, H + 2, W + 4)``, with zeros above and at the sides.
        rows: of the N positions.
        columns: of the same.
    """
    number = torch.arange(CausalContext.known, device=done.device)
    down, right = number // CausalContext.side, number % CausalContext.side
    around = done[:, :, rows[:, None] + down, columns[:, None] + right]
    return around.permute(0, 2, 3, 1).flatten(0, 1)


# A stage but for its channels: those of synthesis mirror those of analysis.
_Stage = Callable[[int], ResidualSwinBlocks]


def _stage(depth: int, heads: int, window: int, ratio: float, side: int) -> _Stage:
    def make(channels: int) -> ResidualSwinBlocks:
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be divided into {heads} heads")
        size = min(window, side)
        hidden = int(channels * ratio)
        return ResidualSwinBlocks(channels, depth, heads, size, hidden, shifts=side > window)

    return make


def _halving(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=2, padding=size // 2)


def _doubling(inputs: int, outputs: int, size: int = 3) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, size, stride=2, padding=size // 2, output_padding=1)


def build(
    N: int = 128,  # noqa: N803
    M: int = 192,  # noqa: N803
    depths: Sequence[int] | None = None,
    num_heads: Sequence[int] | None = None,
    window_size: Sequence[int] | None = None,
    mlp_ratio: float | None = None,
    variant: str | None = None,
    context_heads: int = 16,
) -> Tic | SerialTic:
    """Return an untrained network; by default that of the public checkpoints.

    Args:
        N: channels of the transforms and of z.
        M: channels of y.
        depths: blocks of each stage of ``g_a`` and ``h_a``, four and two with a hyperprior
            alone, three and two with a serial context; ``h_s`` and ``g_s`` mirror them.
        num_heads: of each stage.
        window_size: of each stage, in positions.
        mlp_ratio: how much wider perceptrons are inside.
        variant: ``hp`` or ``serial``; by default what *depths* are for, or else ``hp``.
        context_heads: of the serial context.

    Raises:
        ValueError: arguments that do not fit together.
    """
    if variant is None:
        variant = SERIAL if depths and len(depths) == len(STAGES[SERIAL]) else HP
    if variant not in STAGES:
        raise ValueError(f"variant {variant!r} is not one of {', '.join(STAGES)}")
    depths = depths or _DEPTHS[variant]
    num_heads = num_heads or _HEADS[variant]
    window_size = window_size or _WINDOWS[variant]
    if any(len(each) != len(STAGES[variant]) for each in (depths, num_heads, window_size)):
        raise ValueError(f"variant {variant} has {len(STAGES[variant])} stages")
    ratio = _MLP_RATIO[variant] if mlp_ratio is None else mlp_ratio
    if ratio <= 0:
        raise ValueError("mlp_ratio must be positive")
    given = zip(depths, num_heads, window_size, STAGES[variant], strict=True)
    stages = [
        _stage(depth, heads, window, ratio, _NOMINAL // stride)
        for depth, heads, window, stride in given
    ]
    if variant == HP:
        return Tic(N, M, stages).eval()
    if M % context_heads:
        raise ValueError(f"{M} channels cannot be divided into {context_heads} heads")
    return SerialTic(N, M, stages, context_heads).eval()


def load_official(
    network: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True
) -> None:
    """Load a state dict in official names; see :func:`.checkpoints.load_parameters`."""
    load_parameters(network, state_dict, strict, rename=_own_name, official=_official_name)


def official_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters in official names."""
    return {_official_name(name): value for name, value in parameters(network).items()}


def _own_name(official: str) -> str:
    return re.sub(r"^([gh]_[as])(\d+)\.", r"\1.\2.", official)


def _official_name(own: str) -> str:
    return re.sub(r"^([gh]_[as])\.(\d+)\.", r"\1\2.", own)
