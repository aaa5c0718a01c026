"""What is known of a data set's file, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossylens.spec import MANDATORY, Missing

from lossylens_toolkit.cache_folder import cache_folder
from lossylens_toolkit.tsv_task.tsv_options import DOWNLOAD, TsvOptions


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
        films: the column that names a film, for data that have no pictures.
        part: says to which part of the data the cells of a row belong, where indices may
            begin anew in each part; one that an earlier row has is then preceded by the part
            and ``_``, as the evaluator has it.
    """

    name: str
    url: str = ""
    md5: str = ""
    columns: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    folder: str = ""
    films: str = ""
    part: Callable[[Mapping[str, str | None]], str] | None = None

    @property
    def file(self) -> str:
        """Name of the published file."""
        return self.url.rpartition("/")[2] or f"{self.name}.tsv"


def data_path(options: TsvOptions, dataset: Dataset) -> Path | None:
    """Return where the file is that the options name, None if they name none."""
    if options.data == DOWNLOAD:
        return cache_folder() / "data" / dataset.file
    named = options.data
    return Path(named).expanduser() if named and named != MANDATORY else None


def fetch_data(options: TsvOptions, dataset: Dataset) -> None:
    """Download the file, if the options say so and it is not there yet.

    Raises:
        DataError: it cannot be had, or is not the published one.
    """
    path = data_path(options, dataset)
    if options.data == DOWNLOAD and path is not None and not path.exists():
        from lossylens_toolkit.download import download

        download(dataset.url, path, dataset.md5)


def data_needed(dataset: Dataset, task: str) -> Callable[[Any], Sequence[Missing]]:
    """Return the requirement check of a task: its file must exist, or be to be downloaded.

    Args:
        dataset: whose file it is.
        task: canonical name of the task, for the remedy.
    """

    def check(options: Any) -> Sequence[Missing]:
        path = data_path(options, dataset)
        if path is not None and (path.is_file() or (options.data == DOWNLOAD and dataset.url)):
            return ()
        remedy = f"set tasks.{task}.data to its path"
        if dataset.url:
            remedy = f"download {dataset.url} and {remedy}, or to {DOWNLOAD!r}"
        what = dataset.file if path is None else f"{dataset.file} at {path}"
        return (Missing(what, remedy),)

    return check
