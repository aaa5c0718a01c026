"""The report contract: what is made of a run that is finished.

Plugins register a :class:`ReportSpec` and implement :class:`Report`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lossylens.spec import PluginSpec


@dataclass(frozen=True, kw_only=True)
class ReportSpec(PluginSpec):
    """Declaration of a report.

    The factory is called as ``factory(options)``.
    """

    kind: ClassVar[str] = "report"


class Report(ABC):
    """What ``lossylens run`` writes at its end."""

    @abstractmethod
    def write(self, folder: Path) -> Path:
        """Write the report of the run in *folder*; return the file to open.

        Raises:
            RequirementError: something that it needs is missing.
        """
