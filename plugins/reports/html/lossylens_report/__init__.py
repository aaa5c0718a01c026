"""Reports of runs and of published results: HTML page, figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lossylens.errors import ConfigError, RequirementError, StoreError

if TYPE_CHECKING:
    from lossylens_report.analysis import Analysis
    from lossylens_report.reading import RunReading
    from lossylens_report.sample_pictures import Budget
    from lossylens_report.table import Table

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
    pictures: int | None = None,
    reload: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the report of runs and published results; return the page, or the folder.

    Args:
        names: run folders that ``lossylens run`` made, and names of published results.
        out: folder of the report; by default ``report`` in the run folder where there
            is one run alone, else ``report`` in the current folder.
        formats: members of :data:`FORMATS`.
        fidelity: CSV table of fidelity metrics by codec and level, which are
            correlated with the scores.
        pictures: images of each task whose pictures are made, however long that takes; by
            default some, within bounds of time and size.
        reload: seconds after which a browser shows the page anew; 0 for never.
        say: is told, line by line, which cells are not shown, and why.

    Raises:
        StoreError: a run folder cannot be read, or no run was started in it.
        ConfigError: a name or format is unknown.
        DataError: the table of fidelity metrics is malformed.
        RequirementError: a package that reports need is not installed.
    """
    for each in formats:
        if each not in FORMATS:
            raise ConfigError(f"unknown format {each!r}: use {', '.join(FORMATS)}")
    alone = len(names) == 1 and Path(names[0]).is_dir()
    folder = out or (Path(names[0]) / "report" if alone else Path("report"))
    # A codec that is asked to decode may change the working directory.
    absolute = folder.absolute()
    with _extras_named():
        analysis, runs = _analysis(names, fidelity)
        path = folder / _write(analysis, runs, absolute, formats, pictures, reload).relative_to(
            absolute
        )
        for line in _untold(analysis):
            say(line)
        return path


def compare_with_printed(*names: str | Path) -> list[tuple[Table, Table]]:
    """Return how the figures that the sources printed compare with those recomputed.

    Args:
        names: as for :func:`write_report`.

    Returns:
        For each source that printed any: a row for each printed table, and one for each
        cell that does not agree, with the reason.

    Raises:
        StoreError: a run folder cannot be read, or no run was started in it.
        ConfigError: a name is unknown, or no source printed anything.
        RequirementError: a package that reports need is not installed.
    """
    with _extras_named():
        from lossylens_report.tables import agreement_table, disagreement_table

        analysis, _ = _analysis(names, None)
        compared = [
            (agreement_table(analysis, source), disagreement_table(analysis, source))
            for source in analysis.comparison.sources
            if source.reported
        ]
    if not compared:
        raise ConfigError(
            f"--compare: {', '.join(map(str, names))} printed no figures; name published results,"
            " such as published"
        )
    return compared


def write_split(run: Path, folder: Path) -> tuple[list[Table], tuple[str, ...]]:
    """Write the gap split of a run that ``lossylens gap`` has made.

    Args:
        run: the run folder.
        folder: of the files ``split.csv`` and ``split.json``, which hold every figure.

    Returns:
        Its tables, and what is left out, with the reason.

    Raises:
        StoreError: the run folder cannot be read, or holds no run of that command.
        RequirementError: a package that reports need is not installed.
    """
    with _extras_named():
        from lossylens_report.adaptor_tables import split_figures, split_tables
        from lossylens_report.reading import read_run
        from lossylens_report.table import to_csv, to_json

        found = read_run(run).results.split
        if found is None:
            raise StoreError(f"{run} was not made by `lossylens gap`")
        figures = split_figures([found])
        _write_file(folder / "split.csv", to_csv(figures))
        _write_file(folder / "split.json", to_json(figures))
        return split_tables([found]), found.left_out


@contextmanager
def _extras_named() -> Iterator[None]:
    """Name the extra that brings a package which is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = "figures" if package == "matplotlib" else "report"
        if package not in ("jinja2", "plotly", "scipy", "matplotlib"):
            raise
        raise RequirementError(
            f"reports need the package {package}: pip install 'lossylens[{extra}]'"
        ) from error


def _analysis(
    names: Sequence[str | Path], fidelity: Path | None
) -> tuple[Analysis, list[RunReading]]:
    from lossylens_report.analysis import analyse
    from lossylens_report.comparing import compare
    from lossylens_report.metrics.correlation import read_fidelity
    from lossylens_report.sources import find_sources

    sources, runs = find_sources(names)
    return analyse(compare(sources), read_fidelity(fidelity) if fidelity else None), runs


#: Unfinished cells of a run that are named on the terminal, the others being counted.
_NAMED = 20


def _untold(analysis: Analysis) -> Iterator[str]:
    """Yield what is not shown, and the first cells that are not finished."""
    from lossylens_report.findings import progress

    yield from progress(analysis.comparison.sources)
    for source in analysis.comparison.sources:
        cells = source.unfinished
        yield from (f"  {each}" for each in cells[:_NAMED])
        if len(cells) > _NAMED:
            yield f"  and {len(cells) - _NAMED} more"


def _write(
    analysis: Analysis,
    runs: Sequence[RunReading],
    folder: Path,
    formats: Sequence[str],
    pictures: int | None,
    reload: int,
) -> Path:
    if any(each in TABLES for each in formats):
        from lossylens_report.table import WRITERS
        from lossylens_report.tables import all_tables

        for table in all_tables(analysis):
            for each in TABLES.keys() & set(formats):
                suffix = TABLES[each]
                text = WRITERS[suffix](table)
                _write_file(folder / "tables" / f"{table.name}.{suffix}", text)
    if any(each in FIGURES for each in formats):
        from lossylens_report.figures import write_figures

        write_figures(analysis, folder / "figures", [e for e in FIGURES if e in formats])
    if PAGE not in formats:
        return folder
    from lossylens_report.page import render_page, render_samples
    from lossylens_report.samples import write_samples

    folder.mkdir(parents=True, exist_ok=True)
    samples = write_samples(runs, folder, _budget(pictures))
    browser = folder / "samples.html"
    if samples["sets"]:
        _write_file(browser, render_samples(analysis, samples))
    else:
        browser.unlink(missing_ok=True)
    return _write_file(folder / "index.html", render_page(analysis, samples, reload))


def _budget(pictures: int | None) -> Budget:
    """Return what pictures may take; who says how many waits for them."""
    from lossylens_report.sample_pictures import Budget

    return Budget() if pictures is None else Budget(pictures, 4_000_000_000, 24 * 3600.0)


def _write_file(path: Path, text: str) -> Path:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(path)
