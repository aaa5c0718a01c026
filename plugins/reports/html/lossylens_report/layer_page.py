"""The page of ``lossylens analyze layers``: one file that opens from disk, with no network."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from lossylens_toolkit.layer_analysis.layer_study import ImageMaps, LayerAnalysis
from numpy.typing import NDArray
from PIL import Image

from lossylens_report import charts
from lossylens_report.page import render

if TYPE_CHECKING:
    from lossylens_toolkit.layer_analysis.layer_curves import LayerCurve, Maps

#: Longest side of the originals on the page.
_THUMBNAIL = 256


@dataclass(frozen=True)
class Measure:
    """A chart.

    Attributes:
        name: of the measure, also its column in the table.
        title: heading.
        axis: title of the vertical axis.
        text: what it means and what to look for.
    """

    name: str
    title: str
    axis: str
    text: str


MEASURES = (
    Measure(
        "similarity",
        "Token similarity",
        "cosine with the original",
        "Mean cosine, over patches, of the hidden states of compressed and original image where"
        " they enter each layer; the last point is the output. Where it falls, the distortion"
        " spreads; where it rises, the layer is robust to it.",
    ),
    Measure(
        "distance",
        "Average attention distance",
        "share of the diagonal",
        "Distance from a patch to those that it attends to, weighted by attention. A wide scan"
        " of the image has long distances, the extraction of local structure short ones.",
    ),
    Measure(
        "most_attended",
        "Distance to the most attended token",
        "share of the diagonal",
        "Distance from a patch to the one that it attends to most: short where patches look at"
        " their neighbours, long where all look at the same few.",
    ),
    Measure(
        "mixing",
        "Information flow",
        "mean inflow per token",
        "Attention that a patch gives to others rather than to itself, which is what flows into"
        " it. What flows out of the patches is the same on the whole.",
    ),
    Measure(
        "concentration",
        "Concentration of the outflow",
        "share of the top tenth",
        "Share of all that flows which comes from the tenth of the patches that give most: 0.1"
        " if all give alike, near 1 where few tokens gather what the image is about.",
    ),
)


def values(curve: LayerCurve, name: str) -> list[float]:
    """Return one measure by layer."""
    return curve.similarity if name == "similarity" else curve.flows[name]


def render_layers(analysis: LayerAnalysis) -> str:
    """Return the page as HTML text."""
    data = {
        "palette": {"light": charts.LIGHT, "dark": charts.DARK},
        "charts": {each.name: _chart(analysis, each) for each in MEASURES},
    }
    return render(
        "layers",
        data,
        analysis=analysis,
        measures=MEASURES,
        images=[_shown(image) for image in analysis.images],
    )


def _chart(analysis: LayerAnalysis, measure: Measure) -> dict[str, Any]:
    codecs = list(dict.fromkeys(each.codec for each in analysis.compressed))
    traces = []
    if measure.name != "similarity":
        traces.append(_trace("original", values(analysis.original, measure.name), -1, "solid"))
    for codec in codecs:
        levels = [each for each in analysis.compressed if each.codec == codec]
        for number, each in enumerate(levels):
            dash = charts.DASHES[number % len(charts.DASHES)]
            name = f"{codec} {each.level}, {each.bpp:.3g} bpp"
            curve = values(each.curve, measure.name)
            traces.append(_trace(name, curve, codecs.index(codec), dash))
    return {"data": traces, "axis": measure.axis}


def _trace(name: str, curve: Sequence[float], color: int, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        # Plotly takes tags in names.
        "name": name.replace("&", "&amp;").replace("<", "&lt;"),
        "x": list(range(1, len(curve) + 1)),
        "y": [round(value, 5) for value in curve],
        "meta": {"color": color, "dash": dash},
        "hovertemplate": "%{fullData.name}<br>layer %{x}: %{y:.4f}<extra></extra>",
    }


def _shown(image: ImageMaps) -> dict[str, Any]:
    """Return one image with its maps, for the template."""
    thumbnail = image.original.copy()
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    layers = list(image.maps)
    labels = list(image.maps[layers[0]])
    return {
        "name": image.name,
        "original": _data_url(thumbnail),
        "layers": [layer + 1 for layer in layers],
        "kinds": [
            {
                "title": title,
                "rows": [
                    (label or "original", [pictures[layer][label] for layer in layers])
                    for label in labels
                ],
            }
            for title, pictures in _kinds(image)
        ],
    }


def _kinds(image: ImageMaps) -> Iterator[tuple[str, dict[int, dict[str, str]]]]:
    """Yield title and pictures of each kind of map, by layer and label."""
    yield (
        "Principal components",
        {
            layer: {label: _data_url(Image.fromarray(each.principal)) for label, each in of.items()}
            for layer, of in image.maps.items()
        },
    )
    for name in ("inflow", "outflow"):
        yield (
            f"Information {name}",
            {layer: _heat(of, name) for layer, of in image.maps.items()},
        )


def _heat(maps: Mapping[str, Maps], name: str) -> dict[str, str]:
    """Return grey pictures on one scale, that of the original."""
    low, high = np.percentile(getattr(maps[""], name), [0, 99])
    return {label: _grey(getattr(each, name), low, high) for label, each in maps.items()}


def _grey(values: NDArray[np.float32], low: float, high: float) -> str:
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return _data_url(Image.fromarray((255 * scaled).astype(np.uint8)))


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def table(analysis: LayerAnalysis) -> str:
    """Return all curves as CSV: a row for each image version, layer and measure."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("codec", "level", "bpp", "images", "layer", "measure", "value"))
    versions = [("original", "", "", analysis.original)]
    versions += [(e.codec, e.level, f"{e.bpp:.6g}", e.curve) for e in analysis.compressed]
    for codec, level, bpp, curve in versions:
        for measure in MEASURES:
            for number, value in enumerate(values(curve, measure.name), 1):
                row = (codec, level, bpp, curve.images, number, measure.name, f"{value:.6g}")
                writer.writerow(row)
    return file.getvalue()
