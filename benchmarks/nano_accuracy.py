"""What the nano VLM still answers behind nano codecs, beside JPEG, over rate; and the PSNR.

    python benchmarks/nano_accuracy.py [--scenes 40] [--out runs/nano-accuracy]
        [--figure nano-accuracy.png] [elic hific msillm]

The scenes are new ones on the photographs that no nano codec was trained on.  It is one
run of lossylens, of some minutes; started again with the same folder, it goes on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lossylens.cells import CellResult
from lossylens.grid.config import load_config
from lossylens.run.driver import run
from lossylens_report.reading import read_run
from matplotlib.figure import Figure

NAMES = ("elic", "hific", "msillm")
#: Lower ones weigh hardly less: of a picture of 224x224, the tables are most.
JPEG = ("q1", "q5", "q10", "q20")
PSNR = "PSNR"
TICKS = (0.05, 0.1, 0.2, 0.5)


def answered(names: Sequence[str], scenes: int, out: Path) -> Sequence[CellResult]:
    """Run the grid, or what is left of it, and return its cells."""
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
    return read_run(out).results.cells


def print_table(cells: Sequence[CellResult]) -> None:
    """Print rate, accuracy and PSNR of each level, in Markdown."""
    print("\n| codec | level | bpp | accuracy | PSNR |\n|---|---|--:|--:|--:|")
    for cell in cells:
        psnr = f"{cell.fidelity[PSNR]:.2f}" if PSNR in cell.fidelity else ""
        print(f"| {cell.codec} | `{cell.level}` | {cell.bpp:.3f} | {cell.value:.1f} | {psnr} |")


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
        accuracy.plot(rates, [each.value for each in points], style, label=codec)
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
    cells = answered(arguments.names, arguments.scenes, arguments.out)
    print_table(cells)
    if arguments.figure:
        draw(arguments.figure, cells)


if __name__ == "__main__":
    main()
