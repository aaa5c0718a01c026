"""What a codec with guidance and an adaptor bring: BD-rates and differences with intervals.

python benchmarks/cotam.py runs/cotam --anchor plain

Prints, for the run in a folder (as of ``examples/cotam.yaml``), a table of each VLM and task:
scores by level, the mean over levels of the difference to the model as it is behind the codec
labelled *anchor*, the BD-rate against that curve at equal score, and the share of what
compression costs that is won back, on each codec by its own model without an adaptor.  Intervals
of 95 % are of the bootstrap over images, the same draws for all curves; where a draw's scores do
not rise with the rate, BD-rate is undefined, and the share of draws that have one is printed.
With ``--against LABEL`` differences to the same codec with another adaptor are added, such as a
control.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lossylens.cells import CellResult
from lossylens_report.metrics.bd import bd_rate
from lossylens_report.metrics.bootstrap import interval
from lossylens_report.metrics.curve import Curve, CurveError
from lossylens_report.reading import RunReading, read_run
from lossylens_report.replicates import Replicates
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Draws of BD-rates, whose interpolation takes longer than a mean.
DRAWS = 1000


@dataclass(frozen=True)
class Rates:
    """A curve: cells by ascending rate, and their replicates.

    Attributes:
        cells: of one codec and adaptor.
        scores: ``(replicates, levels)``.
        rates: likewise, in bits per pixel of the original.
    """

    cells: Sequence[CellResult]
    scores: Array
    rates: Array

    @classmethod
    def of(cls, cells: Sequence[CellResult], drawn: Mapping[str, Replicates]) -> Rates:
        """Return the curve of some cells."""
        cells = sorted(cells, key=lambda cell: cell.bpp)
        found = [drawn[cell.key] for cell in cells]
        rates = [each.rates for each in found if each.rates is not None]
        return cls(cells, np.stack([each.scores for each in found], 1), np.stack(rates, 1))

    @property
    def values(self) -> Array:
        """Scores of the cells."""
        return np.array([cell.value for cell in self.cells])

    @property
    def bpp(self) -> Array:
        """Rates of the cells."""
        return np.array([cell.bpp for cell in self.cells])


def difference(one: Rates, other: Rates) -> str:
    """Return the mean over levels of one curve's scores minus another's, with its interval."""
    value = float((one.values - other.values).mean())
    low, high = interval((one.scores - other.scores).mean(1))
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def rate_change(test: Rates, anchor: Rates) -> str:
    """Return the BD-rate in percent with its interval, or why there is none."""
    try:
        value = _bd(anchor.bpp, anchor.values, test.bpp, test.values)
    except CurveError as error:
        return f"none: {error}"
    drawn = []
    for number in range(min(DRAWS, len(test.scores))):
        try:
            drawn.append(
                _bd(
                    anchor.rates[number],
                    anchor.scores[number],
                    test.rates[number],
                    test.scores[number],
                )
            )
        except CurveError:
            continue
    low, high = interval(np.array(drawn)) if drawn else (math.nan, math.nan)
    share = len(drawn) / min(DRAWS, len(test.scores))
    return f"{value:.1f} [{low:.1f}, {high:.1f}] ({share:.0%})"


def _bd(rates: Array, scores: Array, others: Array, other_scores: Array) -> float:
    anchor = Curve.of((float(r), float(s)) for r, s in zip(rates, scores, strict=True))
    test = Curve.of((float(r), float(s)) for r, s in zip(others, other_scores, strict=True))
    return bd_rate(anchor, test)


def recovered(adapted: Rates, plain: Rates, uncompressed: float) -> str:
    """Return the share of what compression costs that the adaptor wins back, over all levels."""
    lost = (uncompressed - plain.scores).sum(1)
    gained = (adapted.scores - plain.scores).sum(1)
    value = float((adapted.values - plain.values).sum() / (uncompressed - plain.values).sum())
    low, high = interval(gained / lost)
    return f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def curves(reading: RunReading, vlm: str, task: str) -> dict[tuple[str, str], Rates]:
    """Return the curves of a model on a task, by codec and adaptor."""
    found: dict[tuple[str, str], list[CellResult]] = {}
    for cell in reading.results.cells:
        if (cell.vlm, cell.task) == (vlm, task) and not cell.uncompressed:
            found.setdefault((cell.codec, cell.adaptor or "none"), []).append(cell)
    return {place: Rates.of(cells, reading.replicates) for place, cells in found.items()}


def table(reading: RunReading, vlm: str, task: str, anchor: str, against: str) -> list[str]:
    """Return the lines of one model's table on a task."""
    of_model = curves(reading, vlm, task)
    base = of_model[anchor, "none"]
    [source] = [
        cell.value
        for cell in reading.results.cells
        if (cell.vlm, cell.task, cell.adaptor) == (vlm, task, "") and cell.uncompressed
    ]
    lines = [
        f"{vlm}, {task}; uncompressed {source:.1f}; anchor {anchor}",
        "| codec | adaptor | bpp | score | PSNR | difference | BD-rate, % | recovered |"
        + (f" minus {against} |" if against else ""),
        "|---|---|---|---|---|---|---|---|" + ("---|" if against else ""),
    ]
    for (codec, adaptor), found in of_model.items():
        own = of_model.get((codec, "none"))
        row = [
            codec,
            adaptor,
            " ".join(f"{each:.3f}" for each in found.bpp),
            " ".join(f"{each:.1f}" for each in found.values),
            " ".join(f"{cell.fidelity.get('PSNR', math.nan):.2f}" for cell in found.cells),
            "" if found is base else difference(found, base),
            "" if found is base else rate_change(found, base),
            "" if own is None or own is found else recovered(found, own, source),
        ]
        control = of_model.get((codec, against))
        if against:
            row.append("" if control is None or control is found else difference(found, control))
        lines.append(f"| {' | '.join(row)} |")
    return lines


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--anchor", default="plain")
    parser.add_argument("--against", default="")
    given = parser.parse_args()
    reading = read_run(given.folder)
    models = dict.fromkeys((cell.vlm, cell.task) for cell in reading.results.cells)
    for vlm, task in models:
        print("\n".join(table(reading, vlm, task, given.anchor, given.against)), end="\n\n")


if __name__ == "__main__":
    main()
