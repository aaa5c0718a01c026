"""Figures for papers, as SVG and PDF, drawn by Matplotlib.

Plotly's own export (Kaleido) drives a Chrome; Matplotlib writes vector files with
embedded fonts anywhere, the same bytes each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lossylens_report.analysis import Analysis, CodecCurve, GroupAnalysis, scaling
from lossylens_report.charts import LIGHT, family
from lossylens_report.table import file_name

#: Width of a figure, in inches: one column of a two-column page, and both.
COLUMN, PAGE = 3.4, 7.0

_MARKERS = ("o", "s", "D", "^", "X", "*", "P", "h", "v", "p", "<", ">")

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7,
    # Text stays text, and the bytes do not depend on the time.
    "svg.fonttype": "none",
    "svg.hashsalt": "lossylens",
    "pdf.fonttype": 42,
}

_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def write_figures(analysis: Analysis, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write all figures in *formats* (``svg``, ``pdf``); return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_STYLE):
        for name, make in figures(analysis):
            figure = make()
            for suffix in formats:
                path = folder / f"{name}.{suffix}"
                figure.savefig(path, bbox_inches="tight", metadata=_METADATA[suffix])
                written.append(path)
    return written


def figures(analysis: Analysis) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the name of each figure with a function that draws it."""
    for model in analysis.models:
        groups = [group for group in analysis.groups if _curves(group, model)]
        if any(model in group.plain_models for group in groups):
            draw = partial(_rate_score, analysis, model, groups)
            yield f"rate-score-{file_name(model)}", draw
            yield f"rate-score-linear-{file_name(model)}", partial(draw, log=False)
            values = _kept_by_task(analysis, model)
            if len(values) >= 3:
                yield f"radar-{file_name(model)}", partial(_radar, analysis, values, _KEPT)
    for vlm, groups in _adapted(analysis).items():
        yield f"methods-{file_name(vlm)}", partial(_methods, analysis, vlm, groups)
    for group in analysis.groups:
        for name, measure, words in (("radar", _kept, _KEPT), ("bd-radar", _bd, "BD-metric")):
            values = _by_model(group, measure)
            if len(values) >= 3:
                title = f"{name}-{file_name(group.group.title)}"
                yield title, partial(_radar, analysis, values, words)
    for codec in (None, *analysis.codecs):
        sized = [group for group in analysis.groups if len(scaling(group, codec)) > 1]
        if sized:
            name = f"model-size-{file_name(codec)}" if codec else "model-size"
            yield name, partial(_scaling, analysis, sized, codec)
    if len(analysis.correlations.names) > 1:
        yield "correlations", partial(_correlations, analysis)
    if any(group.gaps for group in analysis.groups):
        yield "gaps", partial(_gaps, analysis)
    for model, gains in _printed_gains(analysis).items():
        yield f"adaptor-gains-{file_name(model)}", partial(_gains, gains)


def _color(analysis: Analysis, codec: str) -> dict[str, Any]:
    place = analysis.codecs.index(codec)
    return {"color": LIGHT[place % len(LIGHT)], "marker": _MARKERS[place % len(_MARKERS)]}


def _curves(group: GroupAnalysis, model: str) -> list[Any]:
    return [curve for curve in group.curves.values() if curve.model == model and curve.cells]


def _grid(count: int, height: float) -> tuple[Figure, list[Any]]:
    """Return a figure of at most three columns with *count* axes."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(PAGE * columns / 3, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def _rate_score(
    analysis: Analysis, model: str, groups: Sequence[GroupAnalysis], *, log: bool = True
) -> Figure:
    figure, axes = _grid(len(groups), 2.1)
    labelled: dict[str, Any] = {}
    for axis, group in zip(axes, groups, strict=True):
        for curve in _curves(group, model):
            rates = [cell.bpp for cell in curve.cells]
            values = [cell.value for cell in curve.cells]
            style = _color(analysis, curve.codec)
            (line,) = axis.plot(rates, values, markersize=3.5, linewidth=1.1, **style)
            labelled.setdefault(curve.codec, line)
            _bars(axis, curve, style["color"])
        for value in {c.reference.value for c in _curves(group, model) if c.reference}:
            axis.axhline(value, color="#555555", linewidth=0.8, linestyle="--")
        if log:
            _log(axis)
        axis.set_title(group.group.title, fontsize=8)
        axis.set_xlabel("bpp")
        axis.set_ylabel(group.group.metric)
    figure.legend(list(labelled.values()), list(labelled), loc="outside lower center", ncols=6)
    return figure


def _adapted(analysis: Analysis) -> dict[str, list[GroupAnalysis]]:
    """Return the groups in which a VLM has curves with an adaptor, by VLM."""
    found: dict[str, list[GroupAnalysis]] = {}
    for group in analysis.groups:
        curves = [curve for curve in group.curves.values() if curve.cells]
        for vlm in dict.fromkeys(curve.cells[0].vlm for curve in curves if curve.adapted):
            found.setdefault(vlm, []).append(group)
    return found


def _methods(analysis: Analysis, vlm: str, groups: Sequence[GroupAnalysis]) -> Figure:
    """Draw a VLM with each adaptor and without: colours are adaptors, markers are codecs."""
    size = (COLUMN * 1.7, 3.2) if len(groups) == 1 else (PAGE, 3.2 * -(-len(groups) // 2))
    figure = Figure(figsize=size, layout="constrained")
    rows = -(-len(groups) // 2)
    axes = figure.subplots(rows, min(2, len(groups)), squeeze=False).ravel().tolist()
    for spare in axes[len(groups) :]:
        spare.set_visible(False)
    labelled: dict[str, Any] = {}
    colors: dict[str, str] = {"": "#555555"}
    for axis, group in zip(axes, groups, strict=False):
        of_vlm = [c for c in group.curves.values() if c.cells and c.cells[0].vlm == vlm]
        for curve in of_vlm:
            adaptor = curve.cells[0].adaptor if curve.adapted else ""
            color = colors.setdefault(adaptor, LIGHT[(len(colors) - 1) % len(LIGHT)])
            (line,) = axis.plot(
                [cell.bpp for cell in curve.cells],
                [cell.value for cell in curve.cells],
                markersize=4,
                linewidth=1.2 if adaptor else 0.9,
                linestyle="-" if adaptor else ":",
                color=color,
                marker=_color(analysis, curve.codec)["marker"],
            )
            name = f"{curve.codec}, {adaptor}" if adaptor else curve.codec
            labelled.setdefault(name, line)
            _bars(axis, curve, color)
        for value in {c.reference.value for c in of_vlm if c.reference}:
            axis.axhline(value, color="#555555", linewidth=0.8, linestyle="--")
        _log(axis)
        axis.set_title(f"{vlm}, {group.group.title}", fontsize=8)
        axis.set_xlabel("bpp")
        axis.set_ylabel(group.group.metric)
    figure.legend(list(labelled.values()), list(labelled), loc="outside right upper", ncols=1)
    return figure


def _log(axis: Any) -> None:
    """Make the rates or sizes a log axis with plain numbers."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _bars(axis: Any, curve: Any, color: str) -> None:
    """Draw confidence intervals."""
    for cell in curve.cells:
        if cell.interval:
            axis.plot([cell.bpp, cell.bpp], cell.interval, color=color, linewidth=0.6)


def _kept_by_task(analysis: Analysis, model: str) -> dict[str, dict[str, float]]:
    """Return the share kept by task and codec."""
    found: dict[str, dict[str, float]] = {}
    for group in analysis.groups:
        for curve in _curves(group, model):
            if (value := _kept(curve)) is not None:
                found.setdefault(group.group.title, {})[curve.codec] = value
    return found


def _by_model(
    group: GroupAnalysis, measure: Callable[[CodecCurve], float | None]
) -> dict[str, dict[str, float]]:
    """Return a measure of one task by model without adaptor, and codec."""
    found: dict[str, dict[str, float]] = {}
    for curve in group.curves.values():
        value = measure(curve)
        if value is not None and not curve.adapted:
            found.setdefault(curve.model, {})[curve.codec] = value
    return found


def _kept(curve: CodecCurve) -> float | None:
    """Return the share of the uncompressed score that the codec keeps, in percent."""
    return curve.kept


def _bd(curve: CodecCurve) -> float | None:
    """Return the BD-metric, in the unit of the task's metric."""
    return None if isinstance(curve.bd, str) else curve.bd


_KEPT = "kept, % of the uncompressed score"


def _radar(analysis: Analysis, values: dict[str, dict[str, float]], words: str) -> Figure:
    figure = Figure(figsize=(COLUMN * 1.1, COLUMN * 1.2), layout="constrained")
    axis: Any = figure.add_subplot(projection="polar")
    angles = [math.tau * place / len(values) for place in range(len(values))]
    for codec in analysis.codecs:
        points = [of_axis.get(codec, math.nan) for of_axis in values.values()]
        if all(map(math.isnan, points)):
            continue
        style = _color(analysis, codec)
        axis.plot(
            [*angles, angles[0]],
            [*points, points[0]],
            markersize=2.5,
            linewidth=1,
            label=codec,
            **style,
        )
    _radial(axis, [value for of_axis in values.values() for value in of_axis.values()])
    axis.set_rlabel_position(math.degrees(math.pi / len(values)))
    axis.set_xticks(angles, list(values))
    for label, angle in zip(axis.get_xticklabels(), angles, strict=True):
        # Outwards, so that long names do not cover the curves.
        side = round(math.cos(angle), 3)
        label.set_horizontalalignment("left" if side > 0 else "right" if side < 0 else "center")
    figure.suptitle(words, fontsize=7)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _radial(axis: Any, values: Sequence[float]) -> None:
    """Let the radius begin at a round value below the least, and draw the uncompressed score."""
    least, most = min(values), max(values)
    axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.tick_params(axis="y", labelsize=6)
    if least >= 0:
        axis.set_rmin(max(0, least // 10 * 10))
        return
    step = 10 ** math.floor(math.log10(max(1.0, most - least)))
    axis.set_rlim(least // step * step, max(0.0, most))
    turn = [math.tau * place / 180 for place in range(181)]
    axis.plot(turn, [0.0] * len(turn), color="#555555", linewidth=0.8, linestyle="--")


def _scaling(analysis: Analysis, groups: Sequence[GroupAnalysis], codec: str | None) -> Figure:
    figure, axes = _grid(len(groups), 2.0)
    families = list(dict.fromkeys(map(family, analysis.models)))
    labelled: dict[str, Any] = {}
    for axis, group in zip(axes, groups, strict=True):
        points = scaling(group, codec)
        for place, name in enumerate(families):
            members = sorted(point for model, point in points.items() if family(model) == name)
            if members:
                (line,) = axis.plot(
                    [size / 1000 for size, _ in members],
                    [drop for _, drop in members],
                    color=LIGHT[place % len(LIGHT)],
                    marker=_MARKERS[place % len(_MARKERS)],
                    markersize=4,
                    linewidth=1,
                )
                labelled.setdefault(name, line)
        _log(axis)
        axis.set_title(group.group.title, fontsize=8)
        axis.set_xlabel("parameters, billions")
        axis.set_ylabel("drop, %")
    figure.legend(list(labelled.values()), list(labelled), loc="outside lower center", ncols=5)
    return figure


def _correlations(analysis: Analysis) -> Figure:
    found = analysis.correlations
    count = len(found.names)
    figure = Figure(figsize=(COLUMN, COLUMN), layout="constrained")
    axis = figure.add_subplot()
    axis.grid(visible=False)
    image = axis.imshow(found.values, cmap="RdBu", vmin=-1, vmax=1)
    for row, values in enumerate(found.values):
        for column, value in enumerate(values):
            if value == value:
                shade = "white" if abs(value) > 0.6 else "black"
                axis.text(
                    column, row, f"{value:.2f}", ha="center", va="center", color=shade, size=6
                )
    axis.set_xticks(range(count), found.names, rotation=40, ha="right")
    axis.set_yticks(range(count), found.names)
    figure.colorbar(image, ax=axis, shrink=0.8)
    return figure


def _gaps(analysis: Analysis) -> Figure:
    bars = [
        (f"{group.group.title}\n{each.cell.codec} {each.cell.level}", each.gap)
        for group in analysis.groups
        for each in group.gaps
        if each.gap.uncompressed > 0
    ]
    figure = Figure(figsize=(max(COLUMN, 0.8 * len(bars)), 2.4), layout="constrained")
    axis = figure.add_subplot()
    places = range(len(bars))
    information = [100 * gap.information / gap.uncompressed for _, gap in bars]
    generalisation = [100 * gap.generalisation / gap.uncompressed for _, gap in bars]
    axis.bar(places, information, color=LIGHT[0], label="information gap", width=0.6)
    axis.bar(
        places,
        generalisation,
        # A negative part hangs from zero, not from the other part.
        bottom=[
            one if one * other > 0 else 0
            for one, other in zip(information, generalisation, strict=True)
        ],
        color=LIGHT[1],
        hatch="//",
        label="generalisation gap",
        width=0.6,
    )
    axis.set_xticks(places, [label for label, _ in bars])
    axis.set_ylabel("gap, % of uncompressed")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


#: BD-metric without adaptor and printed gain, by task and codec.
Gains = dict[str, dict[str, tuple[float, float]]]


def _printed_gains(analysis: Analysis) -> dict[str, Gains]:
    """Return by model the gains of adaptors that were printed, where the BD-metric is known.

    Of several tables that print the same cell, the first counts.
    """
    drops = {
        (group.group.task, curve.model, curve.codec): value
        for group in analysis.groups
        for curve in group.curves.values()
        if (value := _bd(curve)) is not None
    }
    found: dict[str, Gains] = {}
    for source in analysis.comparison.sources:
        for each in source.reported:
            drop = drops.get((each.task, each.model, each.codec))
            if each.measure == "bd-gain" and each.value is not None and drop is not None:
                of_task = found.setdefault(each.model, {}).setdefault(each.task, {})
                of_task.setdefault(each.codec, (drop, each.value))
    return found


def _gains(gains: Gains) -> Figure:
    """Draw the drop that a codec costs, and the part of it that an adaptor wins back."""
    figure, axes = _grid(len(gains), 1.9)
    for axis, (task, cells) in zip(axes, gains.items(), strict=True):
        places = range(len(cells))
        won = [min(gain, -drop) for drop, gain in cells.values()]
        left = [-drop - part for (drop, _), part in zip(cells.values(), won, strict=True)]
        axis.bar(places, left, color=LIGHT[0], width=0.6, label="what remains")
        axis.bar(
            *(places, won),
            **{"bottom": left, "color": LIGHT[1], "hatch": "//", "width": 0.6},
            label="won back by the adaptor, as printed",
        )
        axis.set_xticks(places, list(cells), rotation=40, ha="right")
        axis.set_title(task, fontsize=8)
        axis.set_ylabel("drop (BD-metric)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
