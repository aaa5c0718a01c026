"""What is known of a data set's file, and the options that name it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossylens.spec import MANDATORY, Missing


@dataclass
class TsvOptions:
    """Options of a task that reads a TSV file.

    Attributes:
        data: path of the file; ``~`` stands for the home folder.
    """

    data: str = MANDATORY


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set of the reference evaluator.

    Attributes:
        name: as in messages, such as ``"POPE"``.
        url: where the file is published.
        md5: of the published file, ``""`` if it is not known.
        columns: that the file must have, besides ``index`` and the pictures.
        optional: columns that are read where the file has them.
        folder: the folder of pictures that the evaluator extracts, if its name
            is not that of the file.
    """

    name: str
    url: str = ""
    md5: str = ""
    columns: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    folder: str = ""

    @property
    def file(self) -> str:
        """Name of the published file."""
        return self.url.rpartition("/")[2] or f"{self.name}.tsv"


def data_path(options: TsvOptions) -> Path | None:
    """Return the path that the options name, None if they name none."""
    named = options.data
    return Path(named).expanduser() if named and named != MANDATORY else None


def data_needed(dataset: Dataset, task: str) -> Callable[[Any], Sequence[Missing]]:
    """Return the requirement check of a task: its file must exist.

    Args:
        dataset: whose file it is.
        task: canonical name of the task, for the remedy.
    """

    def check(options: Any) -> Sequence[Missing]:
        path = data_path(options)
        if path is not None and path.is_file():
            return ()
        download = f"download {dataset.url} and " if dataset.url else ""
        what = dataset.file if path is None else f"{dataset.file} at {path}"
        return (Missing(what, f"{download}set tasks.{task}.data to its path"),)

    return check
