"""HiFiC's priors of the latents, and their integer tables.

They differ from CompressAI's: the factorised prior has a factor behind its last layer
and no medians, the conditional prior may be logistic, and a small number is added to
each likelihood.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math

import torch
from lossylens_toolkit.neural_codec.compressai import LowerBound, pmf_to_quantized_cdf
from lossylens_toolkit.neural_codec.probability_tables import SCALES, Tables, gaussian_tables
from torch import Tensor, nn
from torch.nn import functional

GAUSSIAN, LOGISTIC = "gaussian", "logistic"

#: Least likelihood; as much is added to each.
_FLOOR = 1e-9
_LEAST_SCALE = 0.11

_FILTERS = (1, 3, 3, 3, 1)
_INITIAL_SCALE = 10.0

_PRECISION = 16
#: Values at which less than this remains outside are beyond a table; they are escaped.
_TAIL = 2.0**-_PRECISION
#: Values on each side of zero that a table has at most, whatever the weights.
_REACH = 2**13


class FactorisedPrior(nn.Module):
    """A factorised prior (Ballé et al., 2018, appendix 6.1), as HiFiC has it.

    Args:
        channels: each with a density of its own.
    """

    H_0: nn.Parameter

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        layers = len(_FILTERS) - 1
        for k, (before, after) in enumerate(itertools.pairwise(_FILTERS)):
            start = math.log(math.expm1(1 / _INITIAL_SCALE ** (1 / layers) / after))
            shift = torch.empty(channels, after, 1).uniform_(-0.5, 0.5)
            self.register_parameter(
                f"H_{k}", nn.Parameter(torch.full((channels, after, before), start))
            )
            self.register_parameter(f"a_{k}", nn.Parameter(torch.zeros(channels, after, 1)))
            self.register_parameter(f"b_{k}", nn.Parameter(shift))
        self.likelihood_bound = LowerBound(_FLOOR)

    def logits(self, values: Tensor) -> Tensor:
        """Return the logit of the cumulative distribution at ``(C, 1, n)`` values."""
        for k in range(len(_FILTERS) - 1):
            matrix, factor, shift = (getattr(self, f"{name}_{k}") for name in ("H", "a", "b"))
            values = functional.softplus(matrix) @ values + shift
            values = values + factor.tanh() * values.tanh()
        return values

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return *z* with noise, or rounded in evaluation, and its likelihoods.

        Args:
            z: hyper latents, ``(B, C, h, w)``.
        """
        quantised = z + torch.rand_like(z) - 0.5 if self.training else torch.floor(z + 0.5)
        values = quantised.transpose(0, 1).reshape(self.channels, 1, -1)
        upper, lower = self.logits(values + 0.5), self.logits(values - 0.5)
        # In the tail where differences keep their digits.
        sign = -(upper + lower).detach().sign()
        likelihood = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        likelihood = self.likelihood_bound(likelihood) + _FLOOR
        batch, channels, height, width = z.shape
        shape = (channels, batch, height, width)
        return quantised, likelihood.reshape(shape).transpose(0, 1)

    def _get_medians(self) -> Tensor:
        """Return what is subtracted before rounding: nothing."""
        return self.H_0.new_zeros(self.channels)

    @torch.no_grad()
    def tables(self) -> Tables:
        """Return integer tables; where they end is found by bisection, in float64."""
        exact = copy.deepcopy(self).to(device="cpu", dtype=torch.float64)
        limit = -math.log(_TAIL)
        first = _crossing(exact, -limit).floor().long()
        last = _crossing(exact, limit).ceil().long()
        cdfs = []
        spans = list(zip(first.tolist(), last.tolist(), strict=True))
        longest = max(end - start for start, end in spans) + 1
        # All channels at once: the values of the longest table from each one's first.
        values = first.double()[:, None, None] + torch.arange(longest + 1)
        logits = exact.logits(values - 0.5)[:, 0]
        for (start, end), row in zip(spans, logits, strict=True):
            row = row[: end - start + 2]
            sign = -(row[1:] + row[:-1]).sign()
            pmf = (torch.sigmoid(sign * row[1:]) - torch.sigmoid(sign * row[:-1])).abs()
            outside = torch.sigmoid(row[0]) + torch.sigmoid(-row[-1])
            cdfs.append(pmf_to_quantized_cdf([*pmf.tolist(), outside.item()], _PRECISION))
        return Tables(cdfs, first.tolist())


def _crossing(prior: FactorisedPrior, logit: float) -> Tensor:
    """Return for each channel where its cumulative distribution has this logit."""
    low = torch.full((prior.channels, 1, 1), -float(_REACH), dtype=torch.float64)
    high = -low
    while (high - low).max() > 0.5:
        middle = (low + high) / 2
        below = prior.logits(middle) < logit
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return ((low + high) / 2).flatten()


class ConditionalPrior(nn.Module):
    """Latents of a given mean and scale.

    Args:
        kind: of the distribution, ``gaussian`` or ``logistic``.

    Raises:
        ValueError: another kind.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in (GAUSSIAN, LOGISTIC):
            raise ValueError(f"likelihood_type {kind!r} is not {GAUSSIAN} or {LOGISTIC}")
        self.kind = kind
        self.scale_bound = LowerBound(_LEAST_SCALE)
        self.likelihood_bound = LowerBound(_FLOOR)

    def forward(self, y: Tensor, scales: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
        """Return *y* with noise, or rounded in evaluation, and its likelihoods."""
        if self.training:
            quantised = y + torch.rand_like(y) - 0.5
        else:
            quantised = torch.floor(y - means + 0.5) + means
        distance = (quantised - means).abs()
        scales = self.scale_bound(scales)
        likelihood = self._cdf((0.5 - distance) / scales) - self._cdf((-0.5 - distance) / scales)
        return quantised, self.likelihood_bound(likelihood) + _FLOOR

    def tables(self) -> Tables:
        """Return integer tables of the standard scales."""
        return gaussian_tables() if self.kind == GAUSSIAN else logistic_tables()

    def _cdf(self, values: Tensor) -> Tensor:
        if self.kind == LOGISTIC:
            return torch.sigmoid(values)
        return 0.5 * torch.erfc(-values / math.sqrt(2))


@functools.cache
def logistic_tables() -> Tables:
    """Return the tables of zero-mean logistic distributions of the standard scales.

    They end where an interval has less probability than the coder can give it; the tails
    are so heavy that a table up to a billionth would spend a sixth of itself on them.
    """
    cdfs, smallest = [], []
    for scale in SCALES:
        half = next(
            value
            for value in itertools.count(1)
            if _logistic((0.5 - value) / scale) - _logistic((-0.5 - value) / scale) < _TAIL
        )
        upper = [_logistic((value + 0.5) / scale) for value in range(-half - 1, half + 1)]
        # The upper half by symmetry, where differences lose no digits.
        pmf = [high - low for low, high in itertools.pairwise(upper[: half + 2])]
        pmf += reversed(pmf[:-1])
        cdfs.append(pmf_to_quantized_cdf([*pmf, 2 * upper[0]], _PRECISION))
        smallest.append(-half)
    return Tables(cdfs, smallest)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
