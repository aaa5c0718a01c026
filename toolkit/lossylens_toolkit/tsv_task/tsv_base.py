"""The base of tasks that read the reference evaluator's TSV files.

A task says what is particular to it: its data set, the question of a row, the
verdict on a prediction, and the metrics of all verdicts.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from lossylens.errors import ConfigError, DataError
from lossylens.files.predictions import canonical_index, named
from lossylens.task import ImageRef, Resampling, Sample, Score, Task, TaskSpec
from lossylens.vlm import Question

from lossylens_toolkit.checksums import file_checksums
from lossylens_toolkit.tsv_task.dataset import Dataset, data_path, fetch_data
from lossylens_toolkit.tsv_task.effective import effective_text
from lossylens_toolkit.tsv_task.known import mix_up
from lossylens_toolkit.tsv_task.tsv_options import TsvOptions
from lossylens_toolkit.tsv_task.tsv_table import Row, TsvTable

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was made of one prediction.

    Attributes:
        credit: 1 for right, 0 for wrong, or between; None if only all
            predictions together tell.
        extracted: the answer that was read out of the prediction.
        found: whether an answer could be read out of it.
    """

    credit: float | None
    extracted: str = ""
    found: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """A row that has a prediction, with the verdict on it.

    Attributes:
        row: the row.
        prediction: as :meth:`TsvTask.seen` gives it.
        verdict: on it.
    """

    row: Row
    prediction: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Summary:
    """The metrics of a set of verdicts.

    Attributes:
        metrics: named values, nested as the reference evaluator nests them.
        credits: per row, the credit where it differs from the verdict's.
        resampling: how the primary metric is made of the rows; :func:`mean_credit` for most.
    """

    metrics: Mapping[str, Any]
    credits: Mapping[str, float | None] | None = None
    resampling: Resampling | None = None


def mean_credit(judged: Iterable[Judged], factor: float = 1.0) -> Resampling:
    """Return that of a metric that is *factor* times the mean of the credits of verdicts."""
    return Resampling.mean({each.row.id: each.verdict.credit or 0.0 for each in judged}, factor)


class TsvTask(Task):
    """A task that reads a TSV file.

    Subclasses set ``spec`` and ``dataset`` and implement :meth:`question`,
    :meth:`verdict` and :meth:`summary`.

    Args:
        options: which name the file.

    Raises:
        ConfigError: they name none.
        DataError: the file cannot be read, or is not of this data set.
    """

    spec: ClassVar[TaskSpec]
    dataset: ClassVar[Dataset]

    def __init__(self, options: TsvOptions) -> None:
        path = data_path(options, self.dataset)
        if path is None:
            raise ConfigError(f"tasks.{self.spec.name}.data: not set; it names the TSV file")
        fetch_data(options, self.dataset)
        self.options = options
        self.table = TsvTable(
            path,
            self.dataset.columns,
            self.dataset.optional,
            kind=self.dataset.name,
            folder=self.dataset.folder,
            films=self.dataset.films,
            part=self.dataset.part,
        )

    @abstractmethod
    def question(self, row: Row) -> Question:
        """Return what is asked in *row*."""

    @abstractmethod
    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Return the verdict on *prediction*, as :meth:`seen` gives it."""

    @abstractmethod
    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the metrics over all rows that have a prediction.

        Raises:
            DataError: the reference evaluator gives no score for these rows.
        """

    def images(self, row: Row) -> tuple[ImageRef, ...]:
        """Return the pictures that *row* is about: one, unless a task shows several."""
        return (row.image(),)

    def check(self, row: Row) -> None:
        """Check what must hold for a row, before anything is done with it.

        Raises:
            DataError: it does not hold.
        """

    def fields(self, row: Row) -> Mapping[str, str]:
        """Return what a report may group or show; all kept cells that are not missing."""
        hidden = ("index", "image", "question")
        return {k: v for k, v in row.cells.items() if v is not None and k not in hidden}

    def seen(self, prediction: str) -> str:
        """Return what the reference evaluator sees of a prediction; the effective text for most."""
        return effective_text(prediction)

    def failed(self, row: Row) -> Verdict:
        """Return the verdict on a sample that failed: a wrong answer."""
        return Verdict(0.0, "")

    def second_opinions(self, judged: Sequence[Judged]) -> list[Judged]:
        """Return *judged*, with other verdicts where something else gives them."""
        return list(judged)

    def primary_value(self, metrics: Mapping[str, Any]) -> float:
        """Return the value of the primary metric."""
        value: Any = metrics
        for key in self.spec.primary.name.split("/"):
            value = value[key]
        return float(value)

    def samples(self) -> Iterator[Sample]:
        """Yield all samples, in the order of the file.

        Raises:
            DataError: a malformed row, when it is reached.
        """
        for row in self.table:
            self.check(row)
            yield Sample(row.id, self.images(row), self.question(row), self.fields(row))

    def score(self, predictions: Mapping[str, str | None]) -> Score:
        """Score *predictions*, over the rows that have one.

        Raises:
            DataError: a malformed row; predictions for unknown rows, or for
                none; rows for which the reference evaluator gives no score.
        """
        with _no_search_for_cycles():
            rows = self._checked_rows()
            by_id = self._by_id(predictions)
            judged = [self._judged(row, by_id[row.id]) for row in rows if row.id in by_id]
        if not judged:
            raise DataError(f"{self.table.path}: no predictions for its {len(rows)} rows")
        judged = self.second_opinions(judged)
        with _no_search_for_cycles():
            summary = self.summary(judged)
        verdicts = summary.credits
        if verdicts is None:
            verdicts = {each.row.id: each.verdict.credit for each in judged}
        return Score(
            metrics=summary.metrics,
            value=self.primary_value(summary.metrics),
            verdicts=verdicts,
            extracted={each.row.id: each.verdict.extracted for each in judged},
            samples=len(rows),
            missing=len(rows) - len(judged),
            failed=sum(prediction is None for prediction in by_id.values()),
            unextracted=sum(not each.verdict.found for each in judged),
            resampling=summary.resampling,
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file."""
        return self._checksums["sha256"]

    def provenance(self) -> Mapping[str, str]:
        """Return the file, its checksums, and whether it is the published file."""
        return {
            "file": str(self.table.path),
            **self._checksums,
            "published": self._published,
        }

    def one_of(self, row: Row, column: str, allowed: Sequence[str]) -> str:
        """Return a cell that must hold one of the *allowed* texts.

        Raises:
            DataError: it does not; the error says which data set it looks like.
        """
        cell = row.text(column)
        if cell not in allowed:
            raise self.unexpected(row, column, cell, allowed)
        return cell

    def unexpected(self, row: Row, column: str, text: str, allowed: Sequence[str]) -> DataError:
        """Return the error about a text that the data set does not have in *column*."""
        hint = mix_up(self.dataset.name, self.table.header.names, row.get("category"))
        known = ", ".join(allowed)
        return row.error(
            column, f"{self.dataset.name} has no {text!r}, only {known}. {hint}".rstrip()
        )

    def refuse_mix_up(self, row: Row) -> None:
        """Refuse a row of another data set, where columns and answers do not tell.

        Raises:
            DataError: the row's category is one of another data set.
        """
        category = row.get("category")
        if category is None:
            return
        hint = mix_up(self.dataset.name, self.table.header.names, category)
        if hint:
            raise row.error("category", f"not a file of {self.dataset.name}. {hint}")

    def _checked_rows(self) -> list[Row]:
        rows = []
        for row in self.table:
            self.check(row)
            rows.append(row)
        return rows

    def _by_id(self, predictions: Mapping[str, str | None]) -> dict[str, str | None]:
        """Return the predictions by the index as the table knows it."""
        by_id = {canonical_index(index): text for index, text in predictions.items()}
        if len(by_id) != len(predictions):
            counts = Counter(map(canonical_index, predictions))
            twice = [index for index, count in counts.items() if count > 1]
            raise DataError(f"two predictions for index {named(twice)}")
        unknown = [index for index in by_id if index not in self.table]
        if unknown:
            raise DataError(
                f"predictions for rows that {self.table.path} does not have: index {named(unknown)}"
            )
        return by_id

    def _judged(self, row: Row, prediction: str | None) -> Judged:
        text = self.seen(prediction or "")
        verdict = self.failed(row) if prediction is None else self.verdict(row, text)
        return Judged(row, text, verdict)

    @cached_property
    def _checksums(self) -> Mapping[str, str]:
        path = self.table.path
        try:
            checksums = file_checksums(path, "sha256", "md5")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        if self.dataset.md5 and checksums["md5"] != self.dataset.md5:
            _log.warning(
                "%s is not the published file of %s: its MD5 is %s, not %s",
                path,
                self.dataset.name,
                checksums["md5"],
                self.dataset.md5,
            )
        return checksums

    @property
    def _published(self) -> str:
        if not self.dataset.md5:
            return "unknown"
        return "yes" if self._checksums["md5"] == self.dataset.md5 else "no"


@contextlib.contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Pause the garbage collector: a row makes many objects, but no cycles of them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
