"""The page of ``lossylens analyze layers``: one file that opens from disk, with no network."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from lossylens_toolkit.layer_analysis.layer_study import ImageMaps, LayerAnalysis
from lossylens_toolkit.layer_analysis.stages import LEAST, NAMES
from numpy.typing import NDArray
from PIL import Image

from lossylens_report import charts
from lossylens_report.page import render

if TYPE_CHECKING:
    from lossylens_toolkit.layer_analysis.layer_curves import Maps

#: Longest side of the originals on the page.
_THUMBNAIL = 256

_RED, _ORANGE = (220, 20, 20), (230, 120, 0)


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
        "inflow_distance",
        "Distance of the inflow",
        "share of the diagonal",
        "Distance from a patch to the one that it takes most from; those that take most from the"
        " class token have none. Short where patches look at their neighbours, long where all"
        " look at the same few.",
    ),
    Measure(
        "inflow_targets",
        "Targets of the inflow",
        "distinct tokens",
        "Of how many distinct tokens the patches of a tile take most: many where each looks at"
        " neighbours of its own, few where a few tokens gather what the image is about.",
    ),
    Measure(
        "inflow_to_class",
        "Inflow from the class token",
        "share of the patches",
        "Share of the patches that take most from the class token.",
    ),
    Measure(
        "outflow_distance",
        "Distance of the outflow",
        "share of the diagonal",
        "Distance from a patch to the one that it gives most to; those that give most to the"
        " class token have none.",
    ),
    Measure(
        "outflow_targets",
        "Targets of the outflow",
        "distinct tokens",
        "To how many distinct tokens the patches of a tile give most.",
    ),
    Measure(
        "outflow_to_class",
        "Outflow to the class token",
        "share of the patches",
        "Share of the patches that give most to the class token.",
    ),
)


def measures(analysis: LayerAnalysis) -> list[Measure]:
    """Return those that the encoder has."""
    return [
        each for each in MEASURES if analysis.class_token or not each.name.endswith("_to_class")
    ]


def render_layers(analysis: LayerAnalysis) -> str:
    """Return the page as HTML text."""
    data = {
        "palette": {"light": charts.LIGHT, "dark": charts.DARK},
        "charts": {each.name: _chart(analysis, each) for each in measures(analysis)},
        "windowed": [layer + 1 for layer in analysis.windowed],
        "stages": [
            {"name": name, "start": start + 1}
            for name, start in zip(NAMES, analysis.stages.starts, strict=True)
        ]
        if analysis.stages
        else [],
    }
    return render(
        "layers",
        data,
        analysis=analysis,
        measures=measures(analysis),
        stages=_stages_text(analysis),
        images=[_shown(image, analysis) for image in analysis.images],
    )


def _stages_text(analysis: LayerAnalysis) -> str:
    """Return what the marks in the charts mean, or why there are none."""
    if analysis.windowed:
        return (
            "Stages are not marked: most layers see no farther than their window, so that"
            " distances do not tell them apart."
        )
    if analysis.stages is None:
        return f"Stages are not marked: with fewer than {LEAST} layers there is nothing to tell."
    found = "as in the paper" if analysis.stages.as_published else "but not those of the paper"
    return (
        "Three stages are marked: the cut of the layers that explains attention distance and"
        f" targets of the inflow best. There is one in any encoder; here the stages are {found},"
        " whose middle layers look nearer than the shallow ones and whose deep layers gather"
        " at fewer tokens, by a tenth at least."
    )


def _chart(analysis: LayerAnalysis, measure: Measure) -> dict[str, Any]:
    codecs = list(dict.fromkeys(each.codec for each in analysis.compressed))
    traces = []
    if measure.name != "similarity":
        traces.append(_trace("original", analysis.original.mean(measure.name), -1, "solid"))
    for codec in codecs:
        levels = [each for each in analysis.compressed if each.codec == codec]
        for number, each in enumerate(levels):
            dash = charts.DASHES[number % len(charts.DASHES)]
            name = f"{codec} {each.level}, {each.bpp:.3g} bpp"
            curve = each.curve.mean(measure.name)
            traces.append(_trace(name, curve, codecs.index(codec), dash))
    return {"data": traces, "axis": measure.axis}


def _trace(name: str, curve: Sequence[float], color: int, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        # Plotly takes tags in names.
        "name": name.replace("&", "&amp;").replace("<", "&lt;"),
        "x": list(range(1, len(curve) + 1)),
        "y": [round(value, 5) if math.isfinite(value) else None for value in curve],
        "meta": {"color": color, "dash": dash},
        "hovertemplate": "%{fullData.name}<br>layer %{x}: %{y:.4f}<extra></extra>",
    }


def _shown(image: ImageMaps, analysis: LayerAnalysis) -> dict[str, Any]:
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
            for title, pictures in _kinds(image, analysis)
        ],
    }


def _kinds(
    image: ImageMaps, analysis: LayerAnalysis
) -> Iterator[tuple[str, dict[int, dict[str, str]]]]:
    """Yield title and pictures of each kind of map, by layer and label."""
    yield (
        "Principal components",
        {
            layer: {label: _data_url(Image.fromarray(each.principal)) for label, each in of.items()}
            for layer, of in image.maps.items()
        },
    )
    unlike = [1 - each.similarity for of in image.maps.values() for each in of.values()]
    most = float(np.percentile(unlike, 99))
    yield (
        f"Similarity of each token on the image: red is unlike the original, full red {most:.2g}"
        " below a cosine of 1",
        {
            layer: {
                label: _reddened(image.tiles, (1 - each.similarity) / max(most, 1e-6))
                for label, each in of.items()
            }
            for layer, of in image.maps.items()
        },
    )
    yield (
        "Attention of the class token"
        if analysis.class_token
        else "Attention that a patch is given, the mean over patches (there is no class token)",
        {layer: _received(of) for layer, of in image.maps.items()},
    )
    for name, at in (("Inflow", "takes most from"), ("Outflow", "gives most to")):
        title = f"{name}: distance to the patch that a patch {at}, black to white"
        yield (
            f"{title}; orange for the class token" if analysis.class_token else title,
            {
                layer: {label: _anchored(getattr(each, name.lower())) for label, each in of.items()}
                for layer, of in image.maps.items()
            },
        )


def _received(maps: Mapping[str, Maps]) -> dict[str, str]:
    """Return grey pictures on one scale, that of the original."""
    low, high = np.percentile(maps[""].received, [0, 99])
    return {
        label: _data_url(_grey((each.received - low) / max(high - low, 1e-12)))
        for label, each in maps.items()
    }


def _grey(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray((255 * np.clip(values, 0, 1)).astype(np.uint8))


def _reddened(picture: Image.Image, strength: NDArray[np.float32]) -> str:
    """Return the grey of a picture, red by so much at each patch."""
    mask = _grey(strength).resize(picture.size, Image.Resampling.NEAREST)
    grey = picture.convert("L").convert("RGB")
    return _data_url(Image.composite(Image.new("RGB", picture.size, _RED), grey, mask))


def _anchored(distances: NDArray[np.float32]) -> str:
    """Return distances in diagonals as grey, and orange where there is none."""
    picture = _grey(np.nan_to_num(distances)).convert("RGB")
    to_class = Image.fromarray(np.isnan(distances))
    picture.paste(_ORANGE, mask=to_class)
    return _data_url(picture)


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
        for measure in measures(analysis):
            for number, value in enumerate(curve.mean(measure.name), 1):
                known = f"{value:.6g}" if math.isfinite(value) else ""
                writer.writerow((codec, level, bpp, curve.images, number, measure.name, known))
    return file.getvalue()
