"""Samples that cannot be asked: the others can, so it is their pictures that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from lossylens.errors import DataError
from lossylens.task import ImageRef


@dataclass(frozen=True, slots=True)
class Unusable:
    """Stands for the reader of a picture; picklable.

    Attributes:
        reason: where in the data what is wrong, and what to do.
    """

    reason: str

    def __call__(self) -> NoReturn:
        """Raise the reason.

        Raises:
            DataError: always.
        """
        raise DataError(self.reason)


def unusable(sample: str, error: DataError) -> ImageRef:
    """Return a picture that fails with *error* when it is read, and the sample with it.

    Args:
        sample: id of the sample, which shares the picture with no other.
        error: what is wrong with it.
    """
    return ImageRef(f"unusable: {sample}", Unusable(str(error)))
