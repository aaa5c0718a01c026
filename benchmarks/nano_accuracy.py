"""What the nano VLM still answers behind nano codecs, beside JPEG, over rate; and the PSNR.

    python benchmarks/nano_accuracy.py [--scenes 40] [--out runs/nano-accuracy]
        [--figure nano-accuracy.png] [elic hific msillm]

The scenes are new ones on the photographs that no nano codec was trained on.  It is one
run of lossylens, of some minutes; started again with the same folder, it goes on.  Intervals
are of 95 %, by the bootstrap over scenes; accuracies at equal rate are those of the first codec
named, between its levels, over the logarithm of the rate.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lossylens.cells import CellResult
from lossylens.grid.config import load_config
from lossylens.run.driver import run
from lossylens_report.metrics.bootstrap import interval
from lossylens_report.reading import RunReading, read_run
from matplotlib.figure import Figure

NAMES = ("elic", "hific", "msillm")
#: Lower ones weigh hardly less: of a picture of 224x224, the tables are most.
JPEG = ("q1", "q5", "q10", "q20")
PSNR = "PSNR"
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5)


def answered(names: Sequence[str], scenes: int, out: Path) -> RunReading:
    """Run the grid, or what is left of it, and return its results."""
    grid: dict[str, Any] = {
        "codecs": {"jpeg": {"levels": list(JPEG)}, **{each: {"variant": "nano"} for each in names}},
        "vlms": {"nano": None},
        "tasks": {"scenes": {"images": scenes, "seed": 31, "photographs": "held-out"}},
        "run": {"out": str(out), "fidelity": ["psnr"]},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.yaml"
        path.write_text(yaml.safe_dump(grid), encoding="utf-8")
        run(load_config(path), print)
    return read_run(out)


def print_table(reading: RunReading, reference: str) -> None:
    """Print rate, accuracy and PSNR of each level, in Markdown.

    Args:
        reading: of the run.
        reference: codec whose accuracy at equal rate stands beside the others'.
    """
    cells = reading.results.cells
    print(f"\n| codec | level | bpp | accuracy | more than {reference} | PSNR |")
    print("|---|---|--:|--:|--:|--:|")
    for cell in cells:
        psnr = f"{cell.fidelity[PSNR]:.2f}" if PSNR in cell.fidelity else ""
        accuracy = f"{cell.value:.1f} ({_bounds(cell.interval)})"
        more = "" if cell.codec == reference else _more(cell, reference, reading)
        row = (cell.codec, f"`{cell.level}`", f"{cell.bpp:.3f}", accuracy, more, psnr)
        print(f"| {' | '.join(row)} |")


def _more(cell: CellResult, reference: str, reading: RunReading) -> str:
    """Return by how much *cell* is above *reference* at its rate, where there is such a rate."""
    others = [each for each in reading.results.cells if each.codec == reference]
    others.sort(key=lambda each: each.bpp)
    if cell.uncompressed or not others or not others[0].bpp <= cell.bpp <= others[-1].bpp:
        return ""
    rates = np.log([each.bpp for each in others])
    difference = cell.value - np.interp(np.log(cell.bpp), rates, [each.value for each in others])
    own = reading.replicates[cell.key]
    found = [reading.replicates[each.key] for each in others]
    assert own.rates is not None
    drawn = [
        own.scores[i]
        - np.interp(
            np.log(own.rates[i]),
            np.log([each.rates[i] for each in found if each.rates is not None]),
            [each.scores[i] for each in found],
        )
        for i in range(len(own.scores))
    ]
    return f"{difference:+.1f} ({_bounds(interval(np.array(drawn)), '+')})"


def _bounds(bounds: tuple[float, float] | None, sign: str = "") -> str:
    return "to".join(f" {each:{sign}.1f} " for each in bounds).strip() if bounds else ""


def draw(path: Path, cells: Sequence[CellResult]) -> None:
    """Draw accuracy and PSNR over the logarithm of the rate."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    accuracy, psnr = figure.subplots(1, 2)
    for cell in cells:
        if cell.uncompressed:
            accuracy.axhline(cell.value, color="k", linestyle=":", label="uncompressed")
    for codec in dict.fromkeys(cell.codec for cell in cells if not cell.uncompressed):
        points = sorted((each for each in cells if each.codec == codec), key=lambda each: each.bpp)
        rates = [each.bpp for each in points]
        style = "k--s" if codec == "jpeg" else "o-"
        line = accuracy.plot(rates, [each.value for each in points], style, label=codec)[0]
        for each in points:
            if each.interval:
                accuracy.plot([each.bpp] * 2, each.interval, color=line.get_color(), linewidth=0.8)
        psnr.plot(rates, [each.fidelity[PSNR] for each in points], style, label=codec)
    accuracy.set(ylabel="accuracy of nano (%)")
    psnr.set(ylabel="PSNR (dB)")
    for axes in (accuracy, psnr):
        axes.set(xlabel="bits per pixel", xscale="log")
        axes.set_xticks(TICKS, labels=map(str, TICKS))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)
    print(f"\n{path}")


def main() -> None:
    """Run, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("runs/nano-accuracy"))
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    reading = answered(arguments.names, arguments.scenes, arguments.out)
    print_table(reading, arguments.names[0])
    if arguments.figure:
        draw(arguments.figure, reading.results.cells)


if __name__ == "__main__":
    main()
