"""The three stages of a vision encoder: where one way of attending ends and the next begins.

Liu et al. (arXiv 2509.24258) read them off the curves of CLIP: shallow layers scan widely,
middle layers look at neighbours, deep layers gather at few tokens.  They give no rule; this
one finds three stages in any curves, and says apart from that whether they are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Fewer layers that see the whole image have no three stages worth a name.
LEAST = 6

_CLEARLY = 0.9

NAMES = ("shallow", "middle", "deep")


@dataclass(frozen=True)
class Stages:
    """Three runs of layers.

    Attributes:
        starts: first layer of each, counted from 0.
        as_published: whether they are the paper's: the middle one attends clearly nearer
            than the shallow one, and the deep one is anchored at clearly fewer tokens than
            the middle one, by at least a tenth.
    """

    starts: tuple[int, int, int]
    as_published: bool


def find_stages(distance: Sequence[float], targets: Sequence[float]) -> Stages | None:
    """Return the stages that explain two curves best; None for fewer than :data:`LEAST` layers.

    Each curve is scaled to a variance of one.  Of all ways to cut the layers into three runs
    the one is taken that leaves the smallest sum of squares around the means of the runs.

    Args:
        distance: average attention distance by layer.
        targets: number of distinct sources of inflow by layer.
    """
    curves = np.array([distance, targets], dtype=np.float64)
    layers = curves.shape[1]
    if layers < LEAST:
        return None
    scale = curves.std(axis=1, keepdims=True)
    scaled = (curves - curves.mean(axis=1, keepdims=True)) / np.where(scale > 0, scale, 1)
    cuts = min(combinations(range(1, layers), 2), key=lambda cuts: _spread(scaled, cuts))
    near, few = (np.array([run.mean() for run in np.split(curve, cuts)]) for curve in curves)
    return Stages((0, *cuts), bool(near[1] < _CLEARLY * near[0] and few[2] < _CLEARLY * few[1]))


def _spread(curves: NDArray[Any], cuts: tuple[int, ...]) -> float:
    return float(
        sum(run.shape[1] * run.var(axis=1).sum() for run in np.split(curves, cuts, axis=1))
    )
