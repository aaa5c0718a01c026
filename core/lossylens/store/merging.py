"""Joining run folders of one configuration, each with a share of the images, into one.

Keys are hashes of what decides a result, so equal keys must hold equal results; where they
do not, the machines differ, and nothing is joined.  A failure is no result: a share may have
been done again with ``run.retry_failed``, and what it has found then replaces the failure.
Scores, and what is of all images together, are made by the next start of the run.
"""

from __future__ import annotations

import filecmp
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lossylens.errors import StoreError
from lossylens.store.bitstreams import read_bitstream, write_bitstream
from lossylens.store.database import Store


class _Table(NamedTuple):
    """How a table is joined.

    Attributes:
        key: columns.
        result: condition of the rows that are no failure.
        wanted: condition of the rows that are joined.
    """

    key: str
    result: str = "1"
    wanted: str = "1"


#: What is joined.  What failed for a reason that may pass is asked again wherever it is.
_TABLES = {
    "parts": _Table("key"),
    "images": _Table("sha256", "failure IS NULL"),
    "cells": _Table("key"),
    "encodings": _Table("codec, image", "bitstream IS NOT NULL", "NOT transient"),
    "predictions": _Table("cell, sample", "text IS NOT NULL", "NOT transient"),
    # SQLite has NULL for a value that is not a number.
    "fidelity": _Table("codec, image, metric", "failure IS NULL"),
    "notes": _Table("part, text"),
}


def merge(target: Path, sources: Sequence[Path]) -> tuple[int, int]:
    """Join *sources* into the run folder *target*, which is made where it is not there.

    Each is taken in whole or not at all.  One that was taken in before adds nothing.  A result
    replaces a failure, and nothing else that *target* has is replaced.

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
    with store.attached(other) as database:
        for name, table in _TABLES.items():
            _check_equal(database, name, table, other.folder)
        _check_features(other.folder, store.folder)
        _copy_bitstreams(database, other.folder, store.folder)
        _copy_features(other.folder, store.folder)
        for name, (key, result, wanted) in _TABLES.items():
            database.execute(
                f"DELETE FROM main.{name} WHERE NOT ({result}) AND ({key}) IN"  # noqa: S608  # names of ours
                f" (SELECT {key} FROM other.{name} WHERE {wanted} AND {result})"
            )
            database.execute(
                f"INSERT OR IGNORE INTO main.{name} SELECT * FROM other.{name} WHERE {wanted}"  # noqa: S608
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
    # Numbered among its like, a timing that is there as often is equal to one that is there.
    numbered = "SELECT *, row_number() OVER (PARTITION BY stage, part, items, seconds) FROM"
    besides = f"EXCEPT {numbered} main.timings" if known else ""
    database.execute(
        "INSERT INTO main.timings SELECT stage, part, items, seconds FROM"  # noqa: S608
        f" ({numbered} other.timings {besides})"
    )
    database.execute(
        "INSERT INTO main.runs (started, ended, outcome, config, manifest)"
        f" {starts} other.runs EXCEPT {starts} main.runs"
    )


def _check_equal(database: sqlite3.Connection, name: str, table: _Table, source: Path) -> None:
    """Make sure that results of one key are the same.

    Raises:
        StoreError: some are not; names the first.
    """
    columns = [row["name"] for row in database.execute(f"PRAGMA main.table_info({name})")]
    # A position is of the latest configuration, and no result.
    differ = " OR ".join(f"ours.{each} IS NOT it.{each}" for each in columns if each != "position")
    key, result, wanted = table
    found = database.execute(
        f"SELECT it.* FROM (SELECT * FROM other.{name} WHERE {wanted} AND {result}) AS it"  # noqa: S608
        f" JOIN (SELECT * FROM main.{name} WHERE {result}) AS ours USING ({key})"
        f" WHERE {differ} LIMIT 1"
    ).fetchone()
    if found is not None:
        named = ", ".join(f"{each} {str(found[each])[:12]}" for each in key.split(", "))
        raise _differs(source, name, named)


def _check_features(source: Path, target: Path) -> None:
    """Make sure that feature files of one name are the same.

    Raises:
        StoreError: some are not; names the first.
    """
    for path in _features(source):
        name = path.relative_to(source)
        if (target / name).exists() and not filecmp.cmp(path, target / name, shallow=False):
            raise _differs(source, "features", f"image {path.name[:12]}")


def _differs(source: Path, what: str, named: str) -> StoreError:
    return StoreError(
        f"{source} has other {what} than what is merged already ({named}): the same plugin,"
        " options and data gave two results, so the machines differ; nothing of it was taken"
    )


def _copy_bitstreams(database: sqlite3.Connection, source: Path, target: Path) -> None:
    for row in database.execute(
        "SELECT DISTINCT bitstream FROM other.encodings WHERE bitstream IS NOT NULL"
    ):
        write_bitstream(target, read_bitstream(source, row["bitstream"]))


def _copy_features(source: Path, target: Path) -> None:
    for path in _features(source):
        to = target / path.relative_to(source)
        if not to.exists():
            to.parent.mkdir(parents=True, exist_ok=True)
            # Half a file would differ from the whole one ever after.
            temporary = to.with_name(f".{to.name}.tmp")
            shutil.copyfile(path, temporary)
            temporary.replace(to)


def _features(folder: Path) -> Iterator[Path]:
    """Yield the files of what is measured of single images for metrics of whole sets."""
    for path in (folder / "features").rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            yield path
