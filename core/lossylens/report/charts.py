"""Charts of a report, as Plotly figures in JSON form.

Plotly's script is embedded in the page, so a report opens from disk with no
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from lossylens.report.results import CellResult

#: Okabe and Ito's colours, told apart by colour-blind readers, on light and dark.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7A7A7A")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

Figure = dict[str, Any]


def rate_score_figure(cells: Sequence[CellResult]) -> Figure:
    """Return score against rate for the cells of one task.

    One line per model and codec; codecs share a colour, models a dash; the
    uncompressed score of each model is a horizontal line.  The rate axis is
    logarithmic.
    """
    compressed = [cell for cell in cells if not cell.uncompressed]
    codecs = sorted({cell.codec for cell in compressed})
    models = sorted({cell.model for cell in cells})
    traces = [
        _curve(list(group), codecs.index(codec), models.index(model), len(models) > 1)
        for (model, codec), group in groupby(
            sorted(compressed, key=lambda cell: (cell.model, cell.codec, cell.bpp)),
            key=lambda cell: (cell.model, cell.codec),
        )
    ]
    rates = [cell.bpp for cell in compressed if cell.bpp > 0]
    if rates:
        traces += [
            _reference(cell, models.index(cell.model), min(rates), max(rates))
            for cell in cells
            if cell.uncompressed
        ]
    return {"data": traces, "layout": _layout(cells[0].metric)}


def _curve(cells: list[CellResult], codec: int, model: int, named_by_model: bool) -> Figure:
    first = cells[0]
    name = f"{first.model} · {first.codec}" if named_by_model else first.codec
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [cell.bpp for cell in cells],
        "y": [cell.value for cell in cells],
        "customdata": [[cell.level, cell.samples, cell.failed] for cell in cells],
        "hovertemplate": (
            f"<b>{name}</b> %{{customdata[0]}}<br>%{{y:.2f}} at %{{x:.3f}} bpp"
            "<br>n = %{customdata[1]}, %{customdata[2]} failed<extra></extra>"
        ),
        "line": {"color": COLORS[codec % len(COLORS)], "dash": DASHES[model % len(DASHES)]},
        "marker": {"size": 9, "symbol": SYMBOLS[codec % len(SYMBOLS)]},
    }


def _reference(cell: CellResult, model: int, low: float, high: float) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{cell.model} · uncompressed",
        "x": [low, high],
        "y": [cell.value, cell.value],
        "hovertemplate": f"<b>uncompressed</b><br>{cell.value:.2f}<extra></extra>",
        "line": {"color": "#888888", "width": 1.5, "dash": DASHES[(model + 1) % len(DASHES)]},
    }


def _layout(metric: str) -> Figure:
    axis = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False}
    # Automatic ticks of a log axis write 2 and 5 without their power of ten.
    ticks = [digit * 10.0**power for power in range(-3, 3) for digit in (1, 2, 5)]
    return {
        "xaxis": {
            **axis,
            "type": "log",
            "title": {"text": "rate, bits per pixel"},
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
        },
        "yaxis": {**axis, "title": {"text": metric}},
        "legend": {"orientation": "h", "y": -0.25},
        "margin": {"t": 20, "r": 20, "b": 60, "l": 60},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
    }
