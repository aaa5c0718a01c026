"""Reports of runs and of published results: HTML page, figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossylens.errors import ConfigError, RequirementError

#: What can be written: the page, tables, figures for papers.
PAGE = "html"
TABLES = {"csv": "csv", "markdown": "md", "latex": "tex"}
FIGURES = ("svg", "pdf")
FORMATS = (PAGE, *TABLES, *FIGURES)


def write_report(
    *names: str | Path,
    out: Path | None = None,
    formats: Sequence[str] = (PAGE,),
    fidelity: Path | None = None,
) -> Path:
    """Write the report of runs and published results; return the page, or the folder.

    Args:
        names: run folders that ``lossylens run`` made, and names of published results.
        out: folder of the report; by default ``report`` in the run folder where there
            is one run alone, else ``report`` in the current folder.
        formats: members of :data:`FORMATS`.
        fidelity: CSV table of fidelity metrics by codec and level, which are
            correlated with the scores.

    Raises:
        StoreError: a run folder cannot be read, or nothing in it is scored yet.
        ConfigError: a name or format is unknown.
        DataError: the table of fidelity metrics is malformed.
        RequirementError: a package that reports need is not installed.
    """
    for each in formats:
        if each not in FORMATS:
            raise ConfigError(f"unknown format {each!r}: use {', '.join(FORMATS)}")
    alone = len(names) == 1 and Path(names[0]).is_dir()
    folder = out or (Path(names[0]) / "report" if alone else Path("report"))
    try:
        return _write(names, folder, formats, fidelity)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = "figures" if package == "matplotlib" else "report"
        if package not in ("jinja2", "plotly", "scipy", "matplotlib"):
            raise
        raise RequirementError(
            f"reports need the package {package}: pip install 'lossylens[{extra}]'"
        ) from error


def _write(
    names: Sequence[str | Path], folder: Path, formats: Sequence[str], fidelity: Path | None
) -> Path:
    from lossylens.metrics.correlation import read_fidelity
    from lossylens.report.analysis import analyse
    from lossylens.report.comparing import compare
    from lossylens.report.sources import find_sources

    sources, runs = find_sources(names)
    analysis = analyse(compare(sources), read_fidelity(fidelity) if fidelity else None)
    if any(each in TABLES for each in formats):
        from lossylens.report.tables import WRITERS, all_tables

        for table in all_tables(analysis):
            for each in TABLES.keys() & set(formats):
                suffix = TABLES[each]
                text = WRITERS[suffix](table)
                _write_file(folder / "tables" / f"{table.name}.{suffix}", text)
    if any(each in FIGURES for each in formats):
        from lossylens.report.figures import write_figures

        write_figures(analysis, folder / "figures", [e for e in FIGURES if e in formats])
    if PAGE not in formats:
        return folder
    from lossylens.report.page import render_page
    from lossylens.report.samples import browse

    return _write_file(folder / "index.html", render_page(analysis, browse(runs)))


def _write_file(path: Path, text: str) -> Path:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(path)
