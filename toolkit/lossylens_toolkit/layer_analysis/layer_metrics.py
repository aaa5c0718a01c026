"""What the layers of a vision encoder make of an image, in numbers.

Liu et al. ("When MLLMs Meet Compression Distortion", 2025) look at similarity of tokens,
reach of attention and flow of information layer by layer, and find three stages: shallow
layers scan widely, middle layers look at neighbours, deep layers gather at few tokens.
The definitions are ours:

Tokens are patches; class tokens are left out.  ``A`` is a layer's attention, the mean
over its heads, restricted to patches and normalised again, so that each row (query) sums
to one.  ``p`` is a patch's place in its tile, in patches, and ``D`` the diagonal of the
tile, the distance of its opposite corners.  Everything is averaged over tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Share of the tokens whose part in the outflow is its concentration.
TOP = 0.1


@dataclass(frozen=True)
class AttentionFlow:
    """Where one layer's attention goes.

    Attributes:
        distance: average attention distance, ``mean_q sum_k A[q, k] |p_q - p_k| / D``
            (Dosovitskiy et al. 2021), 0 to 1.
        most_attended: distance to the most attended token,
            ``mean_q |p_q - p_k*| / D`` with ``k* = argmax_k A[q, k]``, which may be ``q``.
        mixing: mean inflow.  The mean outflow is the same.
        concentration: share of the whole outflow that comes from the tenth of the
            tokens that give most; 0.1 if all give alike, 1 if few give everything.
        inflow: what each token takes from others, ``1 - A[i, i]``, by tile and place
            ``(tiles, rows, columns)``.
        outflow: what each token gives to others, ``sum_{q != i} A[q, i]``, likewise.
    """

    distance: float
    most_attended: float
    mixing: float
    concentration: float
    inflow: NDArray[np.float32]
    outflow: NDArray[np.float32]


def token_similarity(original: NDArray[Any], decoded: NDArray[Any]) -> float:
    """Return the mean cosine of the hidden states at equal places, ``mean_i cos(x_i, y_i)``.

    Args:
        original: ``(tokens, width)``.
        decoded: of the compressed image, in the same shape.
    """
    norms = np.linalg.norm(original, axis=-1) * np.linalg.norm(decoded, axis=-1)
    products = np.sum(original * decoded, axis=-1)
    return float(np.mean(products / np.maximum(norms, np.finfo(np.float32).tiny)))


def attention_flow(weights: NDArray[Any], rows: int, columns: int) -> AttentionFlow:
    """Return where attention goes.

    Args:
        weights: ``(tiles, heads, tokens, tokens)``, queries before keys, rows that sum
            to one; class tokens first.
        rows: of patches, per tile.
        columns: of patches, per tile.
    """
    patches = rows * columns
    extra = weights.shape[-1] - patches
    attention = weights.mean(axis=1)[:, extra:, extra:]
    attention = attention / np.maximum(attention.sum(-1, keepdims=True), np.finfo(np.float32).tiny)
    gaps = _distances(rows, columns)
    most = attention.argmax(axis=-1)
    inflow = 1 - np.diagonal(attention, axis1=1, axis2=2)
    outflow = attention.sum(axis=1) - np.diagonal(attention, axis1=1, axis2=2)
    shape = (len(attention), rows, columns)
    return AttentionFlow(
        distance=float((attention * gaps).sum(-1).mean()),
        most_attended=float(gaps[np.arange(patches), most].mean()),
        mixing=float(inflow.mean()),
        concentration=float(np.mean([_top_share(tile) for tile in outflow])),
        inflow=inflow.reshape(shape).astype(np.float32),
        outflow=outflow.reshape(shape).astype(np.float32),
    )


def _distances(rows: int, columns: int) -> NDArray[np.float32]:
    """Return the distance of every two patches, in diagonals."""
    y, x = np.divmod(np.arange(rows * columns, dtype=np.float32), columns)
    diagonal = math.hypot(rows - 1, columns - 1) or 1.0
    return np.hypot(y[:, None] - y, x[:, None] - x) / np.float32(diagonal)


def _top_share(outflow: NDArray[Any]) -> float:
    count = max(1, round(TOP * outflow.size))
    total = float(outflow.sum())
    return float(np.sort(outflow)[-count:].sum()) / total if total > 0 else 0.0


def principal_maps(
    original: NDArray[Any], others: Sequence[NDArray[Any]]
) -> list[NDArray[np.uint8]]:
    """Return the first three principal components of hidden states as colours.

    The components and the range of each colour are those of the original, so that equal
    colours mean equal features in all maps.

    Args:
        original: ``(tokens, width)``.
        others: of compressed images, in the same shape.

    Returns:
        ``(tokens, 3)`` for the original and each of the others.
    """
    mean = original.mean(axis=0)
    _, _, basis = np.linalg.svd(original - mean, full_matrices=False)
    # The sign of a component is arbitrary; this choice is the same on every machine.
    basis = basis[:3] * np.sign(basis[:3].sum(axis=-1, keepdims=True) + 1e-12)
    projected = [(each - mean) @ basis.T for each in (original, *others)]
    low, high = np.percentile(projected[0], [1, 99], axis=0)
    scaled = [(each - low) / np.maximum(high - low, 1e-12) for each in projected]
    colours = [(255 * np.clip(each, 0, 1)).astype(np.uint8) for each in scaled]
    # Of fewer than three tokens there are fewer components.
    return [np.pad(each, ((0, 0), (0, 3 - each.shape[1]))) for each in colours]
