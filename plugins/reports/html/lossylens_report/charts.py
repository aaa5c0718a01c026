"""Charts of a report, as Plotly figures in JSON form.

Each trace says in ``meta`` what it shows (model, codec, task), by which the page
filters, and has no colour: the page takes that from the codec's number and the theme.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lossylens.cells import CellResult

from lossylens_report.analysis import Analysis, GroupAnalysis, scaling
from lossylens_report.metrics.split import Estimate
from lossylens_report.run_results import SplitPoint, TopicGain

#: Colours of the codecs on a light and on a dark page; contrast with it is 3:1 or more.
LIGHT = (
    *("#0072b2", "#c44e00", "#00805a", "#b0478a", "#8a6d00", "#6a4c93"),
    *("#a11d33", "#3f7d20", "#006d77", "#7a4419", "#5a5a5a", "#2f4fd0"),
)
DARK = (
    *("#56b4e9", "#ff8a4c", "#3ddc97", "#f29ccb", "#f0c419", "#b79ced"),
    *("#ff7b8a", "#9bd770", "#4fd1c5", "#d9a574", "#c8c8c8", "#93a8ff"),
)
SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "x", "star"),
    *("cross", "hexagon", "triangle-down", "pentagon", "bowtie", "hourglass"),
)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

Figure = dict[str, Any]


def rate_score(group: GroupAnalysis, codecs: Sequence[str]) -> Figure:
    """Return score against rate on one task, with the uncompressed score of each model.

    Args:
        group: the task.
        codecs: all codecs of the report; the place of one decides its colour.
    """
    rates = [cell.bpp for curve in group.curves.values() for cell in curve.cells]
    traces = [
        _curve(curve.model, curve.codec, curve.cells, codecs)
        for curve in group.curves.values()
        if curve.cells
    ]
    for cell in group.group.cells:
        if cell.uncompressed and rates:
            traces.append(_reference(cell, min(rates), max(rates)))
    below = any(cell.value < 0 for cell in group.group.cells)
    return {
        "data": traces,
        "layout": {
            "xaxis": {"type": "log", "title": {"text": "rate, bits per pixel"}, **_ticks(rates)},
            "yaxis": {
                "title": {"text": group.group.metric},
                # Else an axis of nothing but zeros would reach below them.
                "rangemode": "normal" if below else "nonnegative",
            },
        },
    }


def _ticks(rates: Sequence[float]) -> Figure:
    # Automatic ticks of a log axis write 2 and 5 without their power of ten.
    ticks = [digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 3, 5, 7)]
    if not rates:
        return {}
    inside = [tick for tick in ticks if min(rates) * 0.7 <= tick <= max(rates) * 1.4]
    return {"tickvals": inside, "ticktext": [f"{tick:g}" for tick in inside]}


def _curve(model: str, codec: str, cells: Sequence[CellResult], codecs: Sequence[str]) -> Figure:
    trace: Figure = {
        "type": "scatter",
        "mode": "lines+markers" if len(cells) > 1 else "markers",
        "name": f"{codec} (unseen)" if all(cell.unseen for cell in cells) else codec,
        "meta": {"model": model, "codec": codec, "color": codecs.index(codec)},
        "x": [cell.bpp for cell in cells],
        "y": [cell.value for cell in cells],
        "customdata": [
            [f"{cell.level} (unseen)" if cell.unseen else cell.level, _counts(cell)]
            for cell in cells
        ],
        "hovertemplate": (
            f"<b>{_safe(model)} · {_safe(codec)}</b> %{{customdata[0]}}<br>%{{y:.2f}}"
            " at %{x:.3f} bpp%{customdata[1]}<extra></extra>"
        ),
        "marker": {"size": 8, "symbol": SYMBOLS[codecs.index(codec) % len(SYMBOLS)]},
    }
    if any(cell.interval for cell in cells):
        bounds = [cell.interval or (cell.value, cell.value) for cell in cells]
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [high - cell.value for cell, (_, high) in zip(cells, bounds, strict=True)],
            "arrayminus": [cell.value - low for cell, (low, _) in zip(cells, bounds, strict=True)],
            "thickness": 1,
            "width": 3,
        }
    return trace


def _counts(cell: CellResult) -> str:
    parts = []
    if cell.interval:
        parts.append(f"95 % interval {cell.interval[0]:.2f} to {cell.interval[1]:.2f}")
    if cell.samples:
        failed = f", {cell.failed} failed" if cell.failed else ""
        parts.append(f"n = {cell.samples} on {cell.images} images{failed}")
    return "".join(f"<br>{part}" for part in parts)


def _reference(cell: CellResult, low: float, high: float) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "uncompressed",
        "meta": {"model": cell.model, "codec": "", "color": -1},
        "x": [low, high],
        "y": [cell.value, cell.value],
        "hovertemplate": (
            f"<b>{_safe(cell.model)} · uncompressed</b><br>{cell.value:.2f}{_counts(cell)}"
            "<extra></extra>"
        ),
        "line": {"width": 1.5},
    }


def _safe(text: str) -> str:
    """Return *text* without what Plotly takes for markup or a placeholder."""
    return re.sub(r"[<>&%{}$]", " ", text)


def radar(analysis: Analysis) -> Figure:
    """Return the share of the score that codecs keep: by task for a model, and by model.

    A trace has in ``meta`` either the model or the task that it is shown for.
    """
    codecs = analysis.codecs
    traces = []
    for model in analysis.models:
        axes = [group for group in analysis.groups if model in group.models]
        for codec in codecs:
            values = {
                group.group.title: curve.kept
                for group in axes
                if (curve := group.curves.get((model, codec)))
            }
            traces += _spokes(values, codec, codecs, {"view": "model", "show": model})
    for group in analysis.groups:
        for codec in codecs:
            of_task = {
                curve.model: curve.kept
                for (_, name), curve in group.curves.items()
                if name == codec and not curve.adapted
            }
            meta = {"view": "task", "show": group.group.title}
            traces += _spokes(of_task, codec, codecs, meta)
    return {"data": traces, "layout": {"polar": {"radialaxis": {"ticksuffix": " %"}}}}


def _spokes(
    values: Mapping[str, float | None], codec: str, codecs: Sequence[str], meta: Figure
) -> list[Figure]:
    known = {axis: value for axis, value in values.items() if value is not None}
    if len(known) < 3:
        return []
    axes = [*known, next(iter(known))]
    return [
        {
            "type": "scatterpolar",
            "mode": "lines+markers",
            "name": codec,
            "meta": {**meta, "codec": codec, "color": codecs.index(codec)},
            "r": [round(known[axis], 2) for axis in axes],
            "theta": axes,
            "marker": {"size": 5, "symbol": SYMBOLS[codecs.index(codec) % len(SYMBOLS)]},
            "hovertemplate": f"<b>{_safe(codec)}</b> %{{theta}}<br>%{{r:.1f}} %<extra></extra>",
        }
    ]


def family(model: str) -> str:
    """Return the series that a model is of: its name without its size."""
    return re.sub(r"[-_. ]?\d+(\.\d+)?[bm]\b", "", model, flags=re.IGNORECASE)


def scaling_chart(analysis: Analysis) -> Figure:
    """Return drop against model size; a line joins the models of one family."""
    traces = []
    families = list(dict.fromkeys(map(family, analysis.models)))
    for group in analysis.groups:
        for codec in (None, *group.codecs):
            points = scaling(group, codec)
            if len(points) < 2:
                continue
            for name in families:
                members = sorted(
                    (size, drop, model)
                    for model, (size, drop) in points.items()
                    if family(model) == name
                )
                if members:
                    meta = {"task": group.group.title, "codec": codec or "mean of codecs"}
                    traces.append(_family_trace(name, families.index(name), members, meta))
    return {
        "data": traces,
        "layout": {
            "xaxis": {
                "type": "log",
                "title": {"text": "parameters, billions"},
                "tickvals": [0.001, 0.01, 0.1, 0.5, 1, 2, 3, 5, 7, 10, 20, 30, 70],
            },
            "yaxis": {
                "title": {"text": "drop, % of the uncompressed score"},
                "rangemode": "tozero",
            },
        },
    }


def _family_trace(
    name: str, place: int, members: Sequence[tuple[float, float, str]], meta: Figure
) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "meta": {**meta, "color": place},
        "x": [size / 1000 for size, _, _ in members],
        "y": [drop for _, drop, _ in members],
        "customdata": [model for _, _, model in members],
        "hovertemplate": "<b>%{customdata}</b><br>loses %{y:.1f} %<extra></extra>",
        "marker": {"size": 9, "symbol": SYMBOLS[place % len(SYMBOLS)]},
    }


def correlation_chart(analysis: Analysis) -> Figure:
    """Return the matrix of rank correlations."""
    found = analysis.correlations
    values = [
        [None if value != value else round(value, 3) for value in row] for row in found.values
    ]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": list(found.names),
                "y": list(found.names),
                "z": values,
                "customdata": [list(row) for row in found.pairs],
                "zmin": -1,
                "zmax": 1,
                "colorscale": [[0, "#f4a582"], [0.5, "#f7f7f7"], [1, "#92c5de"]],
                "texttemplate": "%{z:.2f}",
                "textfont": {"color": "#1c2430"},
                "hovertemplate": "%{y} and %{x}<br>%{z:.2f}, n = %{customdata}<extra></extra>",
                "colorbar": {"thickness": 12, "outlinewidth": 0},
                "xgap": 1,
                "ygap": 1,
            }
        ],
        "layout": {"yaxis": {"autorange": "reversed"}, "xaxis": {"tickangle": -35}},
    }


def gap_chart(analysis: Analysis) -> Figure:
    """Return the two parts of the gap, in percent of the uncompressed score, model by model."""
    bars = [
        (
            f"{group.group.title}<br>{_safe(each.cell.codec)} {_safe(each.cell.level)}"
            f"{'<br>unseen' if each.cell.unseen else ''}",
            each,
        )
        for group in analysis.groups
        for each in group.gaps
        if each.gap.uncompressed > 0
    ]
    traces = []
    for model in dict.fromkeys(each.cell.model for _, each in bars):
        of_model = [(label, each) for label, each in bars if each.cell.model == model]
        for number, part in enumerate(("information", "generalisation")):
            points = [getattr(each.gap, part) for _, each in of_model]
            traces.append(
                {
                    "type": "bar",
                    "name": f"{part} gap",
                    "meta": {"color": number, "show": model},
                    "x": [label for label, _ in of_model],
                    "y": [
                        100 * value / each.gap.uncompressed
                        for value, (_, each) in zip(points, of_model, strict=True)
                    ],
                    "customdata": [[_safe(model), value] for value in points],
                    "width": min(0.8, 0.15 * len(of_model)),
                    "marker": {"pattern": {"shape": "/" if number else ""}},
                    "hovertemplate": (
                        f"<b>%{{customdata[0]}}</b><br>{part} gap: %{{customdata[1]:.2f}} points,"
                        " %{y:.1f} %<extra></extra>"
                    ),
                }
            )
    return {
        "data": traces,
        "layout": {
            "barmode": "relative",
            "yaxis": {"title": {"text": "gap, % of the uncompressed score"}},
        },
    }


def split_chart(analysis: Analysis) -> Figure:
    """Return the gap splits, task by task: parts stacked, with each training seed."""
    traces: list[Figure] = []
    for source in analysis.comparison.sources:
        split = source.split
        for task in split.images if split else ():
            points = [each for each in split.points if each.task == task] if split else []
            show = {"show": f"{task}, {split.vlm}" if split else task}
            traces += _split_traces(points, show)
    return {
        "data": traces,
        "layout": {"barmode": "relative", "yaxis": {"title": {"text": "points of the score"}}},
    }


def _split_traces(points: Sequence[SplitPoint], show: Figure) -> Iterator[Figure]:
    labels = [
        f"{_safe(each.codec)}<br>{_safe(each.level)}{'<br>unseen' if each.unseen else ''}"
        for each in points
    ]
    parts = (
        ("generalisation gap (at least)", "generalisation", "/"),
        ("information gap (at most)", "information", ""),
    )
    for number, (name, part, shape) in enumerate(parts):
        figures = [getattr(each.split, part) for each in points]
        yield {
            "type": "bar",
            "name": name,
            "meta": {**show, "color": 1 - number},
            "x": labels,
            "y": [each.value for each in figures],
            "customdata": [_words(each) for each in figures],
            "width": min(0.5, 0.1 * len(points)),
            "marker": {"pattern": {"shape": shape}},
            "hovertemplate": f"{name}: %{{customdata}}<extra></extra>",
        }
    gains = [(label, each.split.generalisation) for label, each in zip(labels, points, strict=True)]
    yield {
        **_marks("95 % interval of the generalisation gap", gains, "line-ew", show, 2),
        "error_y": _bounds([each for _, each in gains]),
    }
    if any(len(each.seeds) > 1 for _, each in gains):
        seeds = [(label, seed) for label, each in gains for seed in each.seeds]
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": "each training seed",
            "meta": {**show, "color": 2},
            "x": [label for label, _ in seeds],
            "y": [value for _, value in seeds],
            "marker": {"size": 7, "symbol": "circle-open"},
            "hovertemplate": "a seed: %{y:.2f}<extra></extra>",
        }
    one = [(label, p.split.one[1]) for label, p in zip(labels, points, strict=True) if p.split.one]
    if one:
        yield _marks("gain of one adaptor for all points", one, "diamond", show, 3)


def _marks(
    name: str, figures: Sequence[tuple[str, Estimate]], symbol: str, show: Figure, color: int
) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "meta": {**show, "color": color},
        "x": [label for label, _ in figures],
        "y": [each.value for _, each in figures],
        "customdata": [_words(each) for _, each in figures],
        "marker": {"size": 11, "symbol": symbol},
        "hovertemplate": f"{name}: %{{customdata}}<extra></extra>",
    }


def _bounds(figures: Sequence[Estimate]) -> Figure:
    return {
        "type": "data",
        "symmetric": False,
        "array": [each.high - each.value for each in figures],
        "arrayminus": [each.value - each.low for each in figures],
        "thickness": 1.5,
        "width": 5,
    }


def _words(figure: Estimate) -> str:
    return f"{figure.value:.2f}, 95 % interval {figure.low:.2f} to {figure.high:.2f}"


def topic_chart(analysis: Analysis) -> Figure:
    """Return gains by topic of the questions, for each adapted model and task."""
    codecs = analysis.codecs
    traces = []
    for source in analysis.comparison.sources:
        for (task, vlm, adaptor, codec), group in groupby(source.topics, _kind_of):
            gains = list(group)
            traces.append(
                {
                    "type": "bar",
                    "name": _safe(codec),
                    "meta": {
                        "show": f"{task}, {vlm} + {adaptor}",
                        "color": codecs.index(codec),
                    },
                    "marker": {},
                    "x": [_safe(each.topic) for each in gains],
                    "y": [each.adapted - each.plain for each in gains],
                    "error_y": {
                        "type": "data",
                        "symmetric": False,
                        "array": [each.high - each.adapted + each.plain for each in gains],
                        "arrayminus": [each.adapted - each.plain - each.low for each in gains],
                        "thickness": 1,
                        "width": 2,
                    },
                    "customdata": [
                        f"{each.plain:.1f} to {each.adapted:.1f} %, interval of the gain"
                        f" {each.low:.1f} to {each.high:.1f}, {each.questions} questions"
                        for each in gains
                    ],
                    "hovertemplate": (
                        f"<b>{_safe(codec)}</b> %{{x}}: %{{y:.1f}}<br>%{{customdata}}"
                        "<extra></extra>"
                    ),
                }
            )
    return {
        "data": traces,
        "layout": {"barmode": "group", "yaxis": {"title": {"text": "gain, points of accuracy"}}},
    }


def _kind_of(gain: TopicGain) -> tuple[str, str, str, str]:
    return gain.task, gain.vlm, gain.adaptor, gain.codec
