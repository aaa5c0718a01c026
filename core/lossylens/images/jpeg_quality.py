"""What the header of a JPEG file says of how it was encoded: quality and subsampling.

Follows Annex K of ITU-T T.81 (ISO/IEC 10918-1) for the example quantisation tables, and
libjpeg's ``jpeg_set_quality`` for their scaling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Table K.1 of T.81, luminance.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip

#: Table K.2 of T.81, chrominance.
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip

_SUBSAMPLING = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
    (4, 2): "4:1:0",
}


@dataclass(frozen=True, slots=True)
class QualityEstimate:
    """Quality on libjpeg's scale, 1..100.

    Attributes:
        quality: the quality whose tables are those of the file, or nearest.
        exact: whether they are the same, entry by entry.
    """

    quality: int
    exact: bool


def standard_tables(quality: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return libjpeg's luma and chroma tables of *quality* (1..100), row by row.

    The example tables of Annex K in percent (``5000 / quality`` below 50,
    ``200 - 2 * quality`` from there), entries limited to the baseline's 1..255.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality {quality} is outside 1..100")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (
        tuple(min(max((entry * percent + 50) // 100, 1), 255) for entry in table)
        for table in (_LUMA, _CHROMA)
    )
    return luma, chroma


def estimate_quality(tables: Sequence[Sequence[int]]) -> QualityEstimate:
    """Return the quality at which a file was encoded, from its tables.

    They are compared with :func:`standard_tables` of every quality; without an exact match
    the nearest in the sense of least squares is taken, as for encoders with tables of their
    own (Photoshop, mozjpeg).

    Args:
        tables: of the first component and of the second, each 64 entries row by row; one
            where they share it (CMYK) or there is one component.
    """
    found = np.array(tables[:2], dtype=np.int64).ravel()
    distances = ((_all_tables()[:, : found.size] - found) ** 2).sum(axis=1)
    nearest = int(distances.argmin())
    return QualityEstimate(nearest + 1, bool(distances[nearest] == 0))


@lru_cache(maxsize=1)
def _all_tables() -> NDArray[np.int64]:
    """Both tables of qualities 1..100, shape (100, 128)."""
    rows = [(*luma, *chroma) for luma, chroma in map(standard_tables, range(1, 101))]
    return np.array(rows, dtype=np.int64)


def subsampling(factors: Sequence[tuple[int, int]]) -> str:
    """Return the name of a chroma subsampling, such as ``"4:2:0"``; ``"4:0:0"`` for grey.

    Combinations without a customary name are written as sampling factors,
    such as ``"2x2,1x2,1x1"``.

    Args:
        factors: horizontal and vertical sampling factor of each component.
    """
    if len(factors) == 1:
        return "4:0:0"
    if len(factors) == 3 and factors[1] == factors[2] == (1, 1):
        return _SUBSAMPLING.get(factors[0], f"{factors[0][0]}x{factors[0][1]}")
    if len(set(factors)) == 1:
        return "4:4:4"
    return ",".join(f"{h}x{v}" for h, v in factors)
