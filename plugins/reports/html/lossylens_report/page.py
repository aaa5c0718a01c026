"""The report's HTML page: one file that opens from disk, with no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from importlib import resources
from itertools import islice
from typing import Any

import jinja2
from lossylens import __version__
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lossylens_report import charts
from lossylens_report.advice import KEPT_SHARES, advice_in_words, advise_keeping
from lossylens_report.analysis import Analysis, CodecCurve, GroupAnalysis
from lossylens_report.findings import findings, notes_on, progress, warnings
from lossylens_report.metrics.operating import SHARES
from lossylens_report.sample_pictures import SIDE
from lossylens_report.table import file_name, numeric, shown
from lossylens_report.tables import OWN_RANGE, SHARED_RANGE, all_tables

#: Sections of the page by anchor; one without content is left out.
_TITLES = {
    "advice": "What to upload",
    "overview": "Overview",
    "curves": "Rate and score",
    "bd": "BD-metric",
    "operating": "Operating points",
    "profiles": "Profiles",
    "sizes": "Model size",
    "adaptors": "Adaptors",
    "gaps": "Gaps",
    "printed": "As printed",
    "samples": "Samples",
    "made": "How it was made",
}


def render_page(analysis: Analysis, samples: Mapping[str, Any], reload: int = 0) -> str:
    """Return the page as HTML text.

    Args:
        analysis: what is shown.
        samples: of the sample browser, as :func:`~lossylens_report.samples.write_samples`
            returns it.
        reload: seconds after which a browser shows the page anew; 0 for never.
    """
    tables = {table.name: table for table in all_tables(analysis)}
    data = _data(analysis)
    measures = [_Measure(analysis, model) for model in analysis.models]
    printed = [
        name
        for source in analysis.comparison.sources
        if f"{(name := file_name(source.name))}-printed" in tables
    ]
    has_radar = bool(data["radar"]["data"])
    known = [value for row in data["correlation"]["data"][0]["z"] for value in row]
    has_correlation = any(value is not None for value in known)
    maps = [each for source in analysis.comparison.sources for each in source.maps]
    advice = [tables[name] for name in tables if name.startswith("advice-")]
    content = {
        "advice": bool(advice),
        "overview": True,
        "curves": bool(analysis.groups),
        "bd": any(measure.groups for measure in measures),
        "operating": any(measure.groups for measure in measures),
        "profiles": has_radar or has_correlation or "fidelity" in tables,
        "sizes": bool(data["scaling"]["data"]),
        "adaptors": bool(maps) or any(name in tables for name in ADAPTOR_TABLES),
        "gaps": bool(data["gap"]["data"]),
        "printed": bool(printed),
        "samples": bool(samples["sets"]),
        "made": True,
    }
    sections = [(anchor, _TITLES[anchor]) for anchor, present in content.items() if present]
    return render(
        "report",
        data,
        sections=sections,
        shown_sections=[anchor for anchor, _ in sections],
        has_radar=has_radar,
        has_correlation=has_correlation,
        progress=progress(analysis.comparison.sources),
        analysis=analysis,
        title=_names(analysis),
        reload=reload,
        advice=advice,
        advice_words=_advice_words(analysis),
        findings=findings(analysis),
        warnings=warnings(analysis),
        notes_on=partial(notes_on, analysis),
        measures=measures,
        shares=SHARES,
        tables=tables,
        printed=printed,
        shown=shown,
        numeric=numeric,
        samples=samples,
        maps=maps,
        own_range=OWN_RANGE,
        shared_range=SHARED_RANGE,
    )


def render_samples(analysis: Analysis, samples: Mapping[str, Any]) -> str:
    """Return the page of the sample browser; see :func:`render_page`."""
    return render("samples", samples, title=_names(analysis), samples=samples, side=SIDE)


def _names(analysis: Analysis) -> str:
    return ", ".join(source.name for source in analysis.comparison.sources)


def _advice_words(analysis: Analysis) -> list[str]:
    """Return the sentences of the first models; the table has all."""
    groups, share = analysis.comparison.groups, KEPT_SHARES[0]
    return list(islice(advice_in_words(advise_keeping(groups, share), share), 4))


#: Tables of the section on adaptors.
ADAPTOR_TABLES = ("adaptor-gains", "adaptor-uncompressed", "adaptor-topics")


class _Measure:
    """The BD table and operating points of one model, with the best of each column."""

    def __init__(self, analysis: Analysis, model: str) -> None:
        self.model = model
        self.groups = [
            group for group in analysis.groups if any(name == model for name, _ in group.curves)
        ]
        self.codecs = [
            codec
            for codec in analysis.codecs
            if any((model, codec) in group.curves for group in self.groups)
        ]

    def own(self, codec: str) -> list[dict[str, Any]]:
        """Return the row of a codec over its own range."""
        return [self._own(group, codec) for group in self.groups]

    def _own(self, group: GroupAnalysis, codec: str) -> dict[str, Any]:
        curve = group.curves.get((self.model, codec))
        if curve is None or isinstance(curve.bd, str):
            return {"text": "–", "title": curve.bd if curve else "not run", "place": 0}
        sign = 1 if group.group.higher_is_better else -1
        others = [
            sign * each.bd
            for (model, _), each in group.curves.items()
            if model == self.model and not isinstance(each.bd, str)
        ]
        return {
            "text": _signed(curve.bd),
            "value": curve.bd,
            "title": _title(curve),
            "interval": curve.bd_interval,
            "place": _place(sign * curve.bd, others),
        }

    def shared(self, codec: str) -> list[dict[str, Any]]:
        """Return the row of a codec at equal rate."""
        return [self._shared(group, codec) for group in self.groups]

    def _shared(self, group: GroupAnalysis, codec: str) -> dict[str, Any]:
        ratings = group.ratings.get(self.model, {})
        rating = ratings.get(codec)
        if rating is None:
            why = "fewer than four points, or overlaps with no other codec in rate"
            return {"text": "–", "title": why, "place": 0}
        if rating.pool:
            why = "overlaps only with codecs that the others do not overlap with"
            return {"text": "–", "title": why, "place": 0}
        others = [each.value for each in ratings.values() if each.pool == 0]
        return {
            "text": _signed(rating.value),
            "value": rating.value,
            "title": f"better than {rating.wins} of the {rating.pairs} codecs it overlaps with",
            "interval": None,
            "place": _place(rating.value, others),
        }

    def operating(self) -> list[tuple[str, str, list[dict[str, Any]]]]:
        """Return task, codec and one cell for each share."""
        return [
            (group.group.title, codec, _points(group.curves[self.model, codec]))
            for group in self.groups
            for codec in self.codecs
            if (self.model, codec) in group.curves
        ]


def _points(curve: CodecCurve) -> list[dict[str, Any]]:
    if isinstance(curve.operating, str):
        return [{"text": "–", "title": curve.operating} for _ in SHARES]
    cells: list[dict[str, Any]] = []
    for point in curve.operating:
        if point.bpp is None:
            best = f"never: {100 * point.best:.1f} %"
            cells.append({"text": best, "title": "the largest share a measured rate keeps"})
            continue
        text = f"≤ {point.bpp:.3f}" if point.bound else f"{point.bpp:.3f}"
        title = "the lowest measured rate keeps it already" if point.bound else "interpolated"
        if point.unstable:
            text, title = f"{text} *", f"{title}; a higher measured rate falls below it again"
        cells.append({"text": text, "value": point.bpp, "title": title})
    return cells


def _place(value: float, others: list[float]) -> int:
    """Return 1 for the best of several, 2 for the second best of more than two, else 0."""
    better = sum(other > value for other in others)
    return better + 1 if better < min(2, len(others) - 1) else 0


def _signed(value: float) -> str:
    digits = 1 if abs(value) >= 100 else 2
    return f"{value:+.{digits}f}".replace("-", "−")


def _title(curve: CodecCurve) -> str:
    low, high = curve.cells[0].bpp, curve.cells[-1].bpp
    text = f"{len(curve.cells)} points, {low:.3f} to {high:.3f} bpp"
    if curve.kept is not None:
        text += f"; keeps {curve.kept:.1f} %"
    if not isinstance(curve.bd_akima, str):
        text += f"; {_signed(curve.bd_akima)} by Akima in place of PCHIP"
    if curve.bd_interval:
        bounds = [_signed(bound) for bound in curve.bd_interval]
        text += f"; 95 % interval {bounds[0]} to {bounds[1]}"
    return text


def _data(analysis: Analysis) -> dict[str, Any]:
    """Return what the page's script works on."""
    codecs = analysis.codecs
    return {
        "palette": {"light": charts.LIGHT, "dark": charts.DARK},
        "dashes": charts.DASHES,
        "curves": [
            {
                "title": group.group.title,
                "models": group.models,
                "published": sorted(group.group.published),
                "figure": charts.rate_score(group, codecs),
            }
            for group in analysis.groups
        ],
        "radar": charts.radar(analysis),
        "scaling": charts.scaling_chart(analysis),
        "correlation": charts.correlation_chart(analysis),
        "gap": charts.gap_chart(analysis),
        "split": charts.split_chart(analysis),
        "topics": charts.topic_chart(analysis),
    }


def render(name: str, data: Any, **content: Any) -> str:
    """Return a page with all that it needs in it.

    Args:
        name: of its template and its script.
        data: what the script shows; values that JSON has.
        content: what else the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lossylens_report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = _pretty
    return environment.get_template(f"{name}.html").render(
        **content,
        data=_embedded(data),
        style=part("report.css"),
        script=part(f"{name}.js"),
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - Plotly's own script
        version=__version__,
    )


def part(name: str) -> Markup:
    """Return a part of the page that is ours, as it is."""
    path = resources.files("lossylens_report") / "templates" / name
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704 - our own file


def _embedded(value: Any) -> Markup:
    """Return *value* as JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return Markup(text)  # noqa: S704 - "<" is escaped above


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, default=str, ensure_ascii=False)
