"""The report's HTML page: one file, no network."""

from __future__ import annotations

import json
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lossylens import __version__
from lossylens.report.charts import rate_score_figure
from lossylens.report.results import RunResults, by_task, findings, share_kept, warnings


def render_page(results: RunResults) -> str:
    """Return the page as HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lossylens.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = _pretty
    tasks = by_task(results.cells)
    figures = {task: rate_score_figure(cells) for task, cells in tasks.items()}
    return environment.get_template("report.html").render(
        results=results,
        tasks=tasks,
        findings=findings(results),
        warnings=warnings(results),
        share_kept=share_kept,
        figures=_embedded(figures),
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - Plotly's own script
        version=__version__,
    )


def _embedded(value: Any) -> Markup:
    """Return *value* as JSON that is safe inside a script element."""
    text = json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return Markup(text)  # noqa: S704 - "<" is escaped above


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, default=str, ensure_ascii=False)
