"""Correlation of columns of a table, such as fidelity metrics and task scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lossylens.errors import DataError
from lossylens.files.columns import read_csv

from lossylens_report.metrics.curve import LEAST_SCORE

Coefficient = Literal["spearman", "pearson", "kendall"]

#: Pairs of values below which no coefficient is given.
MINIMUM_PAIRS = 4

#: Relative to the largest; of values that are closer to each other, no coefficient can
#: be computed.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Correlations:
    """A symmetric matrix of coefficients.

    Attributes:
        names: of the columns.
        values: rows of coefficients; NaN where too few pairs, or a constant column.
        pairs: how many pairs of values each coefficient is of.
    """

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    pairs: tuple[tuple[int, ...], ...]


def correlate(
    columns: Mapping[str, Sequence[float]], coefficient: Coefficient = "spearman"
) -> Correlations:
    """Return the correlation of every two *columns*, over the rows where both are finite.

    Args:
        columns: values by name, all of one length; NaN marks what is missing.
        coefficient: which one.
    """
    import numpy as np

    arrays = [np.asarray(values, dtype=float) for values in columns.values()]
    results = [[_pair(one, other, coefficient) for other in arrays] for one in arrays]
    return Correlations(
        tuple(columns),
        tuple(tuple(value for value, _ in row) for row in results),
        tuple(tuple(count for _, count in row) for row in results),
    )


def _pair(one: object, other: object, coefficient: Coefficient) -> tuple[float, int]:
    import numpy as np
    from scipy import stats

    first, second = np.asarray(one), np.asarray(other)
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    count = int(both.sum())
    if count < MINIMUM_PAIRS or constant(first.tolist()) or constant(second.tolist()):
        return math.nan, count
    functions = {
        "spearman": stats.spearmanr,
        "pearson": stats.pearsonr,
        "kendall": stats.kendalltau,
    }
    return float(functions[coefficient](first, second).statistic), count


def constant(values: Sequence[float]) -> bool:
    """Whether *values* are one value, but for what rounding can make of it."""
    spread = max(values) - min(values)
    return spread <= max(_ROUNDING * max(map(abs, values)), LEAST_SCORE)


#: Codec, level and task of a rate point; task "" stands for every task.
RatePoint = tuple[str, str, str]


def read_fidelity(path: Path) -> dict[RatePoint, dict[str, float]]:
    """Read a table of fidelity metrics: CSV with codec, level, optionally task, and metrics.

    Every other column is a metric; an empty cell is a missing value.

    Raises:
        DataError: a column is missing or misspelt, a value is no number, or a rate point is
            there twice.
    """
    keys = ("codec", "level", "task")
    table = read_csv(path, names=keys[:2], optional=keys[2:])
    metrics = [name for name in table.headings if name not in keys]
    found: dict[RatePoint, dict[str, float]] = {}
    for row in table.rows:
        point = (row.cells["codec"], row.cells["level"], row.cells.get("task", ""))
        if point in found:
            raise DataError(f"{row.place}: {' '.join(filter(None, point))} is there before")
        found[point] = {name: row.number(name) for name in metrics if row.cells[name].strip()}
    return found
