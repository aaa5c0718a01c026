"""Rate and PSNR of the nano checkpoints beside JPEG, on photographs they were not trained on.

python benchmarks/nano_codecs.py [elic tcm mlicpp hific msillm] [--figure nano-codecs.png]

Prints a table for each codec, and draws the curves with --figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lossylens.registry.plugins import Registry, load_registry
from lossylens_toolkit.photographs import HELD_OUT, load_photograph
from lossylens_toolkit.testing.rate_distortion import Point, curve, jpeg_curve, psnr_at
from matplotlib.figure import Figure

NAMES = ("elic", "tcm", "mlicpp", "hific", "msillm")


def nano_curves(registry: Registry, name: str) -> dict[str, list[Point]]:
    """Return the points of a codec's levels, from the lowest, for each photograph."""
    levels = registry.find("codec", name).spec.levels
    options = {"variant": "nano", "device": "cpu"}
    codecs = [registry.build_codec(name, level, options) for level in levels]
    return {each: curve(codecs, load_photograph(each)) for each in HELD_OUT}


def print_table(
    name: str,
    levels: list[str],
    curves: dict[str, list[Point]],
    jpegs: dict[str, list[Point]],
) -> None:
    """Print each point beside JPEG at the same rate, in Markdown."""
    print(f"\n{name}\n\n| photograph | level | bpp | PSNR | JPEG at this rate | gain |")
    print("|---|---|--:|--:|--:|--:|")
    for photograph, points in curves.items():
        for level, point in zip(levels, points, strict=True):
            jpeg = psnr_at(point.bpp, jpegs[photograph])
            least = jpegs[photograph][0].bpp
            note = f" (at its least, {least:.3f} bpp)" if point.bpp < least else ""
            print(
                f"| {photograph} | `{level}` | {point.bpp:.3f} | {point.psnr:.2f} |"
                f" {jpeg:.2f}{note} | {point.psnr - jpeg:+.2f} |"
            )


def draw(
    path: Path, curves: dict[str, dict[str, list[Point]]], jpegs: dict[str, list[Point]]
) -> None:
    """Draw all curves of each photograph."""
    figure = Figure(figsize=(5 * len(HELD_OUT), 4), layout="constrained")
    for axes, photograph in zip(figure.subplots(1, len(HELD_OUT)), HELD_OUT, strict=True):
        most = 1.3 * max(each.bpp for found in curves.values() for each in found[photograph])
        shown = [each for each in jpegs[photograph] if each.bpp < most]
        axes.plot([each.bpp for each in shown], [each.psnr for each in shown], "k--", label="JPEG")
        for name, found in curves.items():
            points = found[photograph]
            axes.plot(
                [each.bpp for each in points], [each.psnr for each in points], "o-", label=name
            )
        axes.set(title=photograph, xlabel="bits per pixel", ylabel="PSNR (dB)")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)
    print(f"\n{path}")


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    registry = load_registry()
    jpegs = {each: jpeg_curve(load_photograph(each)) for each in HELD_OUT}
    curves = {name: nano_curves(registry, name) for name in arguments.names}
    for name, found in curves.items():
        levels = [level.name for level in registry.find("codec", name).spec.levels]
        print_table(name, levels, found, jpegs)
    if arguments.figure:
        draw(arguments.figure, curves, jpegs)


if __name__ == "__main__":
    main()
