"""Many rates from one network: gain vectors of levels behind the stages of its transforms.

Cui et al., "Asymmetric Gained Deep Image Compression With Continuous Rate Adaptation", CVPR
2021, multiply y by a vector of the level before it is rounded, and what is decoded by another;
Liu et al. (arXiv:2509.24258, appendix A.3) multiply behind each stage of the encoder, and may
give each position a level of its own.  Here both transforms have a vector at each stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class LevelGains(nn.Module):
    """Gains of each level, channel and stage, of positive sign; learned as logarithms.

    Levels stand in the order of their rate, the lowest first.  A level map has for each
    position the place of its level in that order, from 0 on; between two whole numbers,
    gains are interpolated geometrically, as Cui et al. do.  It is resized to each stage by
    nearest neighbours, so one of a single position means that level everywhere.

    Args:
        lambdas: of the levels: weights of the rate against the squared error of pictures
            in 0..1, so that they fall.
        reference: the lambda at which all gains begin as 1.
        analysis: channels behind layers of g_a, by the place of the layer.
        synthesis: channels before layers of g_s, by the place of the layer.

    Raises:
        ValueError: the lambdas do not fall, or are no positive numbers; or there are no stages.
    """

    def __init__(
        self,
        lambdas: Sequence[float],
        reference: float,
        analysis: Mapping[int, int],
        synthesis: Mapping[int, int],
    ) -> None:
        super().__init__()
        self.lambdas = [float(each) for each in lambdas]
        falling = all(a > b for a, b in zip(self.lambdas, self.lambdas[1:], strict=False))
        if not self.lambdas or not falling or not 0 < self.lambdas[-1] < math.inf or reference <= 0:
            raise ValueError(f"lambdas {self.lambdas} must be positive and fall")
        if not analysis or not synthesis:
            raise ValueError("the network has no stages for gains")
        self.reference = reference
        # The step of quantisation goes with the root of lambda, spread over the stages.
        rise = torch.tensor(self.lambdas).div(reference).log().mul(-0.5)[:, None]
        self.analysis = _tables(rise, analysis)
        self.synthesis = _tables(-rise, synthesis)

    def analyse(self, g_a: nn.Module, x: Tensor, level_map: Tensor) -> Tensor:
        """Return latents of pictures; *level_map* is ``(B, h, w)`` or ``(1, 1, 1)``."""
        for place, layer in enumerate(g_a.children()):
            x = layer(x)
            if str(place) in self.analysis:
                x = self._multiplied(x, self.analysis[str(place)], level_map)
        return x

    def synthesise(self, g_s: nn.Module, y_hat: Tensor, level_map: Tensor) -> Tensor:
        """Return pictures of latents; *level_map* as for :meth:`analyse`."""
        for place, layer in enumerate(g_s.children()):
            if str(place) in self.synthesis:
                y_hat = self._multiplied(y_hat, self.synthesis[str(place)], level_map)
            y_hat = layer(y_hat)
        return y_hat

    def place(self, value: float) -> float:
        """Return the place of the level of a lambda, a fraction between two of the levels.

        Raises:
            ValueError: it is outside of those that there are.
        """
        check_lambda(value, self.lambdas)
        if value in self.lambdas:
            return float(self.lambdas.index(value))
        lower = sum(each > value for each in self.lambdas) - 1
        above, below = self.lambdas[lower], self.lambdas[lower + 1]
        return lower + math.log(above / value) / math.log(above / below)

    def _multiplied(self, x: Tensor, table: Tensor, level_map: Tensor) -> Tensor:
        """Return features ``(B, C, H, W)`` times the gains in a table ``(levels, C)``."""
        lower = level_map.floor().clamp(0, len(table) - 1)
        share = (level_map - lower)[..., None].to(table.dtype)
        first = lower.long()
        second = (first + 1).clamp(max=len(table) - 1)
        logarithms = table[first] * (1 - share) + table[second] * share
        gains = logarithms.exp().permute(0, 3, 1, 2).to(x.dtype)
        if gains.shape[-2:] != (1, 1):
            gains = functional.interpolate(gains, x.shape[-2:], mode="nearest")
        return x * gains


def _tables(logarithms: Tensor, stages: Mapping[int, int]) -> nn.ParameterDict:
    """Return a table ``(levels, C)`` for each stage, which together make *logarithms*."""
    return nn.ParameterDict(
        {
            str(place): nn.Parameter((logarithms / len(stages)).repeat(1, channels))
            for place, channels in stages.items()
        }
    )


def check_lambda(value: float, lambdas: Sequence[float]) -> None:
    """Make sure that the lambda of a level is within those of gains, which fall.

    Raises:
        ValueError: it is not.
    """
    if not lambdas[-1] <= value <= lambdas[0]:
        raise ValueError(
            f"lambda {value:g} is outside of {lambdas[-1]:g} to {lambdas[0]:g}, which the gains"
            " were trained for"
        )
