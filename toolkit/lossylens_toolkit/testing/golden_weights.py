"""Deterministic weights, with which two implementations of a network are compared.

The numbers depend on a parameter's name, its shape and a seed alone, so that a golden
file needs to hold only what comes out.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def weights(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """Return the float32 values of a parameter.

    Matrices and kernels are normal with the variance of one over their fan-in; vectors
    are near 1 where *name* ends in ``weight``, near 0 elsewhere.
    """
    generator = np.random.Generator(np.random.PCG64([zlib.crc32(name.encode()), seed]))
    normal = generator.standard_normal(tuple(shape), dtype=np.float32)
    if len(shape) >= 2:
        values = normal / np.float32(np.sqrt(np.prod(shape[1:])))
    else:
        values = (1 if name.endswith("weight") else 0) + np.float32(0.02) * normal
    return torch.from_numpy(np.asarray(values))


def filled(
    parameters: Mapping[str, Tensor],
    seed: int,
    keep: Iterable[str] = (),
    scale: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Return *parameters* by name, with other values.

    Args:
        parameters: by official name.
        seed: of :func:`weights`.
        keep: patterns (``re.search``) of names whose values stay, as those that are
            stored in another parametrisation must.
        scale: factors of what is then found at names that match these patterns.
    """
    keep, scale = tuple(keep), scale or {}
    result = {}
    for name, value in parameters.items():
        kept = any(re.search(pattern, name) for pattern in keep)
        new = value.detach().clone() if kept else weights(name, value.shape, seed)
        for pattern, factor in scale.items():
            if re.search(pattern, name):
                new = new * factor
        result[name] = new
    return result
