"""Reading what a report shows out of a run folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from sqlite3 import Row
from typing import Any

from lossylens.config import NO_ADAPTOR
from lossylens.errors import StoreError
from lossylens.images import SourceFormat
from lossylens.report.results import CellResult, RunResults
from lossylens.store import Store

_SCORED = """
SELECT cells.*, parts.description, scores.*
FROM cells
JOIN parts ON parts.key = cells.codec
LEFT JOIN scores ON scores.cell = cells.key
WHERE cells.position IS NOT NULL
ORDER BY cells.position
"""

_SOURCES = """
SELECT DISTINCT cells.task_label, images.sha256, images.format
FROM cells
JOIN samples ON samples.task = cells.task
JOIN images ON images.sha256 = samples.image
WHERE cells.position IS NOT NULL AND images.format IS NOT NULL
"""

_FAILURES = """
SELECT stage, failure, count(*) AS count FROM failures
GROUP BY stage, failure ORDER BY count(*) DESC, stage, failure
"""


def read_run(folder: Path) -> RunResults:
    """Return the results of the latest configuration of the run in *folder*.

    Raises:
        StoreError: it is no run folder, or nothing in it is scored yet.
    """
    with Store(folder, writable=False) as store:
        runs = store.rows("SELECT * FROM runs ORDER BY id DESC LIMIT 1")
        if not runs:
            raise StoreError(f"{folder} holds no run yet: start one with `lossylens run`")
        manifest = json.loads(runs[0]["manifest"])
        rows = store.rows(_SCORED)
        results = RunResults(
            name=folder.resolve().name,
            cells=tuple(_cell(row, manifest) for row in rows if row["value"] is not None),
            unscored=tuple(_label(row) for row in rows if row["value"] is None),
            failures=tuple(
                (row["stage"], row["failure"], row["count"]) for row in store.rows(_FAILURES)
            ),
            sources=tuple(_sources(store)),
            manifest={
                **manifest,
                "started": runs[0]["started"],
                "ended": runs[0]["ended"],
                "config": json.loads(runs[0]["config"]),
            },
        )
    if not results.cells:
        raise StoreError(f"nothing in {folder} is scored yet: finish it with `lossylens run`")
    return results


def _model(row: Row) -> str:
    vlm: str = row["vlm_label"]
    return vlm if row["adaptor_label"] == NO_ADAPTOR else f"{vlm} + {row['adaptor_label']}"


def _label(row: Row) -> str:
    return f"{_model(row)}, {row['codec_label']} {row['level']}, {row['task_label']}"


def _cell(row: Row, manifest: Mapping[str, Any]) -> CellResult:
    metric = manifest["metrics"][row["task_label"]]
    return CellResult(
        model=_model(row),
        codec=row["codec_label"],
        level=row["level"],
        task=row["task_label"],
        uncompressed=json.loads(row["description"])["name"] == "uncompressed",
        metric=metric["name"],
        value=row["value"],
        higher_is_better=metric["higher_is_better"],
        bpp=row["bpp_mean"] if row["bpp_mean"] is not None else float("nan"),
        bpp_total=row["bpp_total"] if row["bpp_total"] is not None else float("nan"),
        images=row["images"],
        samples=row["samples"],
        failed=row["failed"],
        missing=row["missing"],
        unextracted=row["unextracted"],
        metrics=json.loads(row["metrics"]),
    )


def _sources(store: Store) -> Iterator[tuple[str, str, int]]:
    """Yield task, source format in words and number of images, most frequent first."""
    counts = Counter(
        (row["task_label"], str(SourceFormat(**json.loads(row["format"]))))
        for row in store.rows(_SOURCES)
    )
    for (task, words), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
        yield task, words, count
