"""Joining run folders of one configuration, each with a share of the images, into one.

Keys are hashes of what decides a result, so equal keys must hold equal results; where they
do not, the machines differ, and nothing is joined.  Scores, and what is of all images
together, are made by the next start of the run.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from lossylens.errors import StoreError
from lossylens.store.bitstreams import read_bitstream, write_bitstream
from lossylens.store.database import Store

#: What is joined, with the columns of the key, and which rows.  What failed for a reason that
#: may pass is asked again wherever it is.
_TABLES = {
    "parts": ("key", "1"),
    "images": ("sha256", "1"),
    "cells": ("key", "1"),
    "encodings": ("codec, image", "NOT transient"),
    "predictions": ("cell, sample", "NOT transient"),
    "fidelity": ("codec, image, metric", "1"),
    "notes": ("part, text", "1"),
}


def merge(target: Path, sources: Sequence[Path]) -> tuple[int, int]:
    """Join *sources* into the run folder *target*, which is made where it is not there.

    Each is taken in whole or not at all.  One that was taken in before adds nothing.

    Returns:
        The number of encodings and of answers, failures among them, that *target* has now.

    Raises:
        StoreError: a folder is no run folder or is in use; configurations or results
            differ; a bitstream is lost.
    """
    if any(source.resolve() == target.resolve() for source in sources):
        raise StoreError(f"{target} cannot be merged into itself")
    for source in sources:
        _check_same(sources[0], source)
    with Store(target, writable=True) as store:
        if store.rows("SELECT 1 FROM cells LIMIT 1"):
            _check_same(sources[0], target)
        store.forget_transient_failures()
        for source in sources:
            # Locked, so that nothing is written to it meanwhile.
            with Store(source, writable=True) as other:
                _take_in(store, other)
        [counts] = store.rows(
            "SELECT (SELECT count(*) FROM encodings), (SELECT count(*) FROM predictions)"
        )
    return counts[0], counts[1]


def _check_same(first: Path, other: Path) -> None:
    """Make sure that the latest configurations of two runs have the same cells."""
    with Store(first, writable=False) as one, Store(other, writable=False) as two:
        ours, theirs = _grid(one), _grid(two)
    if not theirs:
        raise StoreError(f"{other} has no grid yet: its run has not begun")
    for mine, its in zip(ours, theirs, strict=False):
        if mine != its:
            raise StoreError(
                f"{other} is of another configuration than {first}: it has the cell"
                f" {', '.join(its[:5])} where the other has {', '.join(mine[:5])}"
                + ("; one of their plugins, options or data differs" * (mine[:5] == its[:5]))
            )
    if len(ours) != len(theirs):
        raise StoreError(
            f"{other} is of another configuration than {first}: {len(theirs)} cells, not"
            f" {len(ours)}"
        )


def _grid(store: Store) -> list[tuple[str, ...]]:
    """Return the labels and keys of the latest configuration's cells, in their order."""
    return [
        tuple(map(str, row))
        for row in store.rows(
            "SELECT vlm_label, adaptor_label, codec_label, level, task_label, vlm, codec, task"
            " FROM cells WHERE position IS NOT NULL ORDER BY position"
        )
    ]


def _take_in(store: Store, other: Store) -> None:
    for row in other.rows("SELECT DISTINCT bitstream FROM encodings WHERE bitstream IS NOT NULL"):
        write_bitstream(store.folder, read_bitstream(other.folder, row["bitstream"]))
    _copy_features(other.folder, store.folder)
    with store.attached(other) as database:
        for table, (key, wanted) in _TABLES.items():
            _check_equal(database, table, key, wanted, other.folder)
            database.execute(
                f"INSERT OR IGNORE INTO main.{table} SELECT * FROM other.{table} WHERE {wanted}"  # noqa: S608  # names of ours
            )
        _take_timings(database)


def _take_timings(database: sqlite3.Connection) -> None:
    """Copy the starts of a run, and the timings that are not there yet.

    Timings have no key.  Of a run of which a start is there already, those that are there as
    often are the same.
    """
    starts = "SELECT started, ended, outcome, config, manifest FROM"
    known = database.execute(
        "SELECT 1 FROM other.runs AS it JOIN main.runs USING (started, config, manifest) LIMIT 1"
    ).fetchone()
    database.execute(
        "INSERT INTO main.timings SELECT stage, part, items, seconds FROM"
        " (SELECT *, row_number() OVER (PARTITION BY stage, part, items, seconds) AS copy"
        " FROM other.timings) AS it WHERE ? OR copy > (SELECT count(*) FROM main.timings"
        " WHERE (stage, part, items, seconds) = (it.stage, it.part, it.items, it.seconds))",
        (known is None,),
    )
    database.execute(
        "INSERT INTO main.runs (started, ended, outcome, config, manifest)"
        f" {starts} other.runs EXCEPT {starts} main.runs"
    )


def _check_equal(
    database: sqlite3.Connection, table: str, key: str, wanted: str, source: Path
) -> None:
    """Make sure that rows of one key are the same.

    Raises:
        StoreError: some are not; names the first.
    """
    columns = [row["name"] for row in database.execute(f"PRAGMA main.table_info({table})")]
    # A position is of the latest configuration, and no result.
    differ = " OR ".join(
        f"main.{table}.{each} IS NOT it.{each}" for each in columns if each != "position"
    )
    found = database.execute(
        f"SELECT it.* FROM (SELECT * FROM other.{table} WHERE {wanted}) AS it"  # noqa: S608
        f" JOIN main.{table} USING ({key}) WHERE {differ} LIMIT 1"
    ).fetchone()
    if found is not None:
        named = ", ".join(f"{each} {str(found[each])[:12]}" for each in key.split(", "))
        raise StoreError(
            f"{source} has other {table} than what is merged already ({named}): the same plugin,"
            " options and data gave two results, so the machines differ; nothing of it was taken"
        )


def _copy_features(source: Path, target: Path) -> None:
    """Copy what is measured of single images for metrics of whole sets."""
    for path in (source / "features").rglob("*"):
        to = target / path.relative_to(source)
        if path.is_file() and not path.name.startswith(".") and not to.exists():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
