"""An executor whose workers do not see the run folder: the seam for other machines."""

from __future__ import annotations

from lossylens.run.executors.local import LocalExecutor


class Apart(LocalExecutor):
    shares_folder = False
