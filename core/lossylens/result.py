"""The results contract: published results, which reports lay beside runs.

Plugins register a :class:`ResultSpec` and implement :class:`PublishedResults`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lossylens.spec import PluginSpec

if TYPE_CHECKING:
    from lossylens.cells import Results


@dataclass(frozen=True, kw_only=True)
class ResultSpec(PluginSpec):
    """Declaration of published results.

    The factory is called as ``factory(options)``.
    """

    kind: ClassVar[str] = "result"


class PublishedResults(ABC):
    """Results that were published."""

    @abstractmethod
    def load(self) -> Results:
        """Return them.

        Raises:
            DataError: their file is malformed.
        """
