"""The report of a run: one HTML file that opens from disk."""

from __future__ import annotations

from pathlib import Path

from lossylens.errors import RequirementError


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of the run folder *run*; return the page's path.

    Args:
        run: a folder that ``lossylens run`` made.
        out: folder of the report; ``report`` in the run folder by default.

    Raises:
        StoreError: *run* is no run folder, or nothing in it is scored yet.
        RequirementError: a package that reports need is not installed.
    """
    from lossylens.report.reading import read_run

    results = read_run(run)
    try:
        from lossylens.report.page import render_page
    except ModuleNotFoundError as error:
        raise RequirementError(
            f"reports need the package {error.name}: pip install 'lossylens[report]'"
        ) from error
    page = (out or run / "report") / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    temporary = page.with_suffix(".tmp")
    temporary.write_text(render_page(results), encoding="utf-8")
    return temporary.replace(page)
