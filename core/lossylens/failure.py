"""Failures that are recorded, apart from errors that stop a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lossylens.errors import BitstreamError, DataError, ImageError, LossylensError, TransientError
from lossylens.loading import describe

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result, in words.

    Attributes:
        transient: whether it may pass, so that a later start tries again.
    """

    reason: str
    transient: bool = False


def attempt(function: Callable[[A], R], argument: A) -> R | Failure:
    """Return the result of *function*, or a failure where it raises.

    Raises:
        LossylensError: one that is not about this argument alone, such as a missing
            requirement.
    """
    try:
        return function(argument)
    except (ImageError, BitstreamError, DataError) as error:
        return Failure(str(error))
    except TransientError as error:
        return Failure(str(error), transient=True)
    except LossylensError:
        raise
    except Exception as error:
        return Failure(describe(error))
