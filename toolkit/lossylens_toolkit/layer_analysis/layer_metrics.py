"""What the layers of a vision encoder make of an image, in numbers.

Similarity of tokens, reach of attention and flow of information layer by layer, as Liu et al.
("When MLLMs Meet Compression Distortion", arXiv 2509.24258) look at them.  Formulas and what
is our choice: ``docs/analysis.md``.

``A`` is a layer's attention, the mean over its heads; each row (query) sums to one.  ``p`` is
a patch's place in its tile, in patches, and ``D`` the diagonal of the tile, the distance of
its opposite corners.  Everything is averaged over tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Anchoring:
    """At which token each patch is anchored, as source of its inflow or target of its outflow.

    Attributes:
        at: that token, ``(tiles, patches)``; patches are counted from 0, a class token is -1.
        distances: to it in diagonals, ``(tiles, rows, columns)``; NaN for a class token,
            which has no place.
    """

    at: NDArray[np.int64]
    distances: NDArray[np.float32]

    @property
    def to_class(self) -> float:
        """Share of the patches that are anchored at a class token."""
        return float((self.at < 0).mean())

    @property
    def targets(self) -> float:
        """How many distinct tokens they are anchored at, of all in their tile."""
        return float(np.mean([len(np.unique(tile)) for tile in self.at]))

    @property
    def distance(self) -> float:
        """Mean distance of patches to the patch they are anchored at; NaN if none is.

        It is the mean over tiles of their means; a tile without such patches has none.
        """
        known = [tile[np.isfinite(tile)] for tile in self.distances]
        means = [float(tile.mean()) for tile in known if tile.size]
        return sum(means) / len(means) if means else math.nan


@dataclass(frozen=True)
class AttentionFlow:
    """Where one layer's attention goes.

    Attributes:
        distance: average attention distance ``mean_q sum_k A[q, k] |p_q - p_k| / D``
            (Dosovitskiy et al. 2021), 0 to 1; over patches, whose rows are normalised again
            without the class tokens.
        inflow: from where a patch takes most, ``argmax_k A[q, k]``; it may be the patch itself.
        outflow: to where a patch gives most, ``argmax_q A[q, k]``, likewise.
        received: attention that each patch is given, ``(tiles, rows, columns)``: by the class
            token where there is one, else the mean over all patches.
    """

    distance: float
    inflow: Anchoring
    outflow: Anchoring
    received: NDArray[np.float32]

    def measures(self) -> dict[str, float]:
        """Return all that is one number for the layer, by name."""
        found = {"distance": self.distance}
        for name in ("inflow", "outflow"):
            anchoring: Anchoring = getattr(self, name)
            found[f"{name}_to_class"] = anchoring.to_class
            found[f"{name}_targets"] = anchoring.targets
            found[f"{name}_distance"] = anchoring.distance
        return found


def similarities(original: NDArray[Any], decoded: NDArray[Any]) -> NDArray[Any]:
    """Return the cosine of the hidden states at equal places, ``cos(x_i, y_i)``: ``(tokens,)``.

    Args:
        original: ``(tokens, width)``.
        decoded: of the compressed image, in the same shape.
    """
    norms = np.linalg.norm(original, axis=-1) * np.linalg.norm(decoded, axis=-1)
    products = np.sum(original * decoded, axis=-1)
    cosines: NDArray[Any] = products / np.maximum(norms, np.finfo(np.float32).tiny)
    return cosines


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
    mean = weights.mean(axis=1)
    among = mean[:, extra:, extra:]
    among = among / np.maximum(among.sum(-1, keepdims=True), np.finfo(np.float32).tiny)
    gaps = _distances(rows, columns)
    shape = (len(mean), rows, columns)
    given = mean[:, :extra] if extra else mean
    return AttentionFlow(
        distance=float((among * gaps).sum(-1).mean()),
        inflow=_anchoring(mean[:, extra:].argmax(axis=2) - extra, gaps, shape),
        outflow=_anchoring(mean[:, :, extra:].argmax(axis=1) - extra, gaps, shape),
        received=given[:, :, extra:].mean(axis=1).reshape(shape).astype(np.float32),
    )


def _anchoring(
    found: NDArray[np.int64], gaps: NDArray[np.float32], shape: tuple[int, ...]
) -> Anchoring:
    """Return where patches are anchored, class tokens being those below zero."""
    at = np.maximum(found, -1)
    distances = np.where(at < 0, np.float32(np.nan), gaps[np.arange(len(gaps)), at])
    return Anchoring(at, distances.reshape(shape))


def _distances(rows: int, columns: int) -> NDArray[np.float32]:
    """Return the distance of every two patches, in diagonals."""
    y, x = np.divmod(np.arange(rows * columns, dtype=np.float32), columns)
    diagonal = math.hypot(rows - 1, columns - 1) or 1.0
    return np.hypot(y[:, None] - y, x[:, None] - x) / np.float32(diagonal)


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
