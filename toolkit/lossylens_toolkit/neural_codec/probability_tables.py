"""Integer probability tables of the range coder.

Encoder and decoder must hold the same tables.  They are computed in float64 on
the CPU, whatever the device of the network, before they are rounded to 16 bits;
their checksum is part of every bitstream, so that a remaining difference between
two machines is found and not decoded.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
import statistics
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lossylens_toolkit.neural_codec.compressai import EntropyBottleneck, pmf_to_quantized_cdf

#: The standard deviations that there are tables for, as in CompressAI: 64, spaced evenly
#: in the logarithm.
SCALES = tuple(
    math.exp(math.log(0.11) + i * (math.log(256) - math.log(0.11)) / 63) for i in range(64)
)

#: Probability outside a table's symbols; those are coded by an escape.
TAIL_MASS = 1e-9

_PRECISION = 16
_WHOLE = 1 << _PRECISION


class Tables:
    """Cumulative distributions, one for each context.

    A table of *n* symbols has *n* + 1 intervals; the last is the escape, after
    which the value itself follows in groups of four bits.

    Attributes:
        smallest: the value of each table's first symbol, int64.
        escape: index of each table's escape, that is its number of symbols, int64.
        checksum: CRC-32 of all tables.
    """

    def __init__(self, cdfs: Sequence[Sequence[int]], smallest: Sequence[int]) -> None:
        nibbles = [*range(0, _WHOLE, _WHOLE >> 4), _WHOLE]
        self.smallest = np.asarray(smallest, dtype=np.int64)
        self.escape = np.asarray([len(cdf) - 2 for cdf in cdfs], dtype=np.int64)
        content = b"".join(np.asarray(cdf, dtype="<i4").tobytes() for cdf in cdfs)
        self.checksum = zlib.crc32(content, zlib.crc32(self.smallest.astype("<i4").tobytes()))
        # An interval of no width at the end keeps the range coder from taking the
        # escape for its own, whose length it would read, unchecked, from the stream.
        self._cdfs = [[*cdf, _WHOLE] for cdf in (*cdfs, nibbles)]

    @property
    def nibble(self) -> int:
        """Index of the uniform table of 16 symbols."""
        return len(self._cdfs) - 1

    def select(
        self, indexes: NDArray[np.int64]
    ) -> tuple[list[int], list[list[int]], list[int], list[int]]:
        """Return what the range coder takes: indexes, tables, their sizes and offsets.

        Only the tables that are used are passed: the coder copies them at each call.
        """
        used = np.flatnonzero(np.bincount(indexes, minlength=len(self._cdfs)))
        position = np.zeros(len(self._cdfs), dtype=np.int64)
        position[used] = np.arange(len(used))
        cdfs = [self._cdfs[index] for index in used.tolist()]
        return position[indexes].tolist(), cdfs, [len(cdf) for cdf in cdfs], [0] * len(cdfs)


@functools.cache
def gaussian_tables() -> Tables:
    """Return the tables of zero-mean Gaussians of the standard deviations :data:`SCALES`."""
    reach = -statistics.NormalDist().inv_cdf(TAIL_MASS / 2)
    cdfs, smallest = [], []
    for scale in SCALES:
        half = math.ceil(scale * reach)
        # The cumulative distribution at the intervals' upper ends, for values below zero.
        upper = [_cumulative((value + 0.5) / scale) for value in range(-half - 1, half + 1)]
        pmf = [high - low for low, high in itertools.pairwise(upper)]
        cdfs.append(pmf_to_quantized_cdf([*pmf, 2 * upper[0]], _PRECISION))
        smallest.append(-half)
    return Tables(cdfs, smallest)


def bottleneck_tables(bottleneck: EntropyBottleneck) -> Tables:
    """Return the tables of a factorised prior (Ballé et al., 2018), one for each channel."""
    exact = copy.deepcopy(bottleneck).to(device="cpu", dtype=torch.float64)
    exact.update(force=True)
    sizes = exact.cdf_length.tolist()
    cdfs = [row[:size] for row, size in zip(exact.quantized_cdf.tolist(), sizes, strict=True)]
    return Tables(cdfs, exact.offset.tolist())


def _cumulative(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))
