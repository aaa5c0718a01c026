"""The report that is written at the end of a run."""

from __future__ import annotations

from pathlib import Path

from lossylens.report import Report
from lossylens.spec import NoOptions

from lossylens_report import write_report


class PageReport(Report):
    """One HTML page in the folder of the run."""

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def write(self, folder: Path) -> Path:
        """Write the page; see :func:`lossylens_report.write_report`."""
        return write_report(folder)
