"""Distances between pictures, and between sets of features, in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

#: Decibels at which a picture's PSNR enters a mean: that of an identical one is infinite.
MOST_PSNR = 100.0


def psnr(original: Image, decoded: Image) -> float:
    """Return the peak signal-to-noise ratio in dB, ``10 log10(255^2 / MSE)``.

    The mean squared error is taken over all pixels and channels of 8-bit RGB; the
    PSNR of a set is the mean over its pictures, not that of their mean error.

    Returns:
        Infinity for identical images.
    """
    difference = np.asarray(original, np.float64) - np.asarray(decoded, np.float64)
    error = float(np.mean(difference**2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def make_psnr() -> Callable[[Image, Image], float]:
    """Return :func:`psnr`."""
    return psnr


def frechet_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the Fréchet distance of two sets of features, each taken as Gaussian.

    ``|m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))`` with means ``m`` and sample
    covariances ``S`` (Heusel et al. 2017).  Of features of the Inception network it is
    the FID.  With ``S = A^T A``, the last trace is the sum of the singular values of
    ``A1 A2^T``, which also holds where there are fewer features than dimensions.

    Args:
        first: ``(samples, dimensions)``, at least two samples.
        second: as many dimensions.
    """
    means, roots = [], []
    for features in (first, second):
        mean = features.mean(axis=0, dtype=np.float64)
        root = (features - mean) / math.sqrt(len(features) - 1)
        if len(root) > root.shape[1]:
            root = np.linalg.qr(root, mode="r")
        means.append(mean)
        roots.append(root)
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(float(np.sum(root**2)) for root in roots)
    distance = float(np.sum((means[0] - means[1]) ** 2)) + spread - 2 * float(cross)
    # Of equal sets, it may come out below zero by rounding.
    return max(0.0, distance)
