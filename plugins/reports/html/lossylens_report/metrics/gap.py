"""What compression costs a model, split into what is lost and what can be won back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gap:
    """The performance gap at one rate point and its two parts.

    The part that a model adapted to compressed images wins back was a failure to
    generalise; what remains is information that the bitstream no longer holds.
    All are in the unit of the metric, of which higher is better.

    Attributes:
        uncompressed: score on the original images.
        compressed: score of the model as it is.
        adapted: score of the adapted model on the same compressed images.
    """

    uncompressed: float
    compressed: float
    adapted: float

    @property
    def performance(self) -> float:
        """Performance gap: uncompressed minus compressed; the sum of the other two."""
        return self.uncompressed - self.compressed

    @property
    def generalisation(self) -> float:
        """Generalisation gap: what adaptation wins back."""
        return self.adapted - self.compressed

    @property
    def information(self) -> float:
        """Information gap: what it does not."""
        return self.uncompressed - self.adapted
