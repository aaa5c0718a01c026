"""What a run keeps: a folder with a database and the bitstreams.

``run.sqlite``
    Everything but the bitstreams; ``schema.sql`` says what.
``bitstreams/``
    One file for each distinct bitstream, named by its SHA-256.  Worker processes put
    them there; all else is written by the process that has the lock.
``run.lock``
    Locked by the one process that writes, and released by the operating system
    however that process ends.

Every method that writes is one transaction, and a bitstream is in place before
the row that names it, so a process that is killed leaves what it had finished
and nothing else.  A power loss may take the last few transactions, which are
then done again, but does not damage the database (write-ahead log,
``synchronous=NORMAL``).  It may also leave bitstreams empty or missing although
their rows are there, because they are not flushed one by one: files of the
wrong size are encoded again when the run is resumed, and every bitstream is
checked against its hash before it is decoded.

Image files are not copied: a resumed run reads them from the task's data again
and knows them by their hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from lossylens.errors import StoreError
from lossylens.images import SourceFormat
from lossylens.store.bitstreams import (
    bitstream_path,
    has_size,
    read_bitstream,
    remove_unfinished,
    unusable,
    write_bitstream,
)
from lossylens.store.jsonable import plain, to_json
from lossylens.store.records import (
    Absence,
    Cell,
    Part,
    Picture,
    Prediction,
    Rate,
    ScoredCell,
    StoredEncoding,
    StoredFidelity,
    StoredSample,
    StoredSetFidelity,
    Timing,
)
from lossylens.task import Score

#: Raised with every change to ``schema.sql``.
SCHEMA_VERSION = 4

# "llns" in SQLite's field for the application.
_APPLICATION = 0x6C6C6E73


class Store:
    """An open run folder.

    Args:
        folder: the run folder.
        writable: lock it, and make it where it is not there.

    Raises:
        StoreError: the folder is in use, cannot be read or written, or its
            database is damaged or of a newer version.
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        self.folder = folder
        self.path = folder / "run.sqlite"
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None
        try:
            if writable:
                self._lock = _locked(folder)
            self._db = self._connected(writable)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and release the lock."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock is not None:
            remove_unfinished(self.folder)
            os.close(self._lock)
            self._lock = None

    def _connected(self, writable: bool) -> sqlite3.Connection:
        if not writable and not self.path.is_file():
            raise StoreError(f"{self.folder} is no run folder: it has no run.sqlite")
        try:
            return _open_database(self.path, writable)
        except (sqlite3.Error, OSError) as error:
            raise unusable(self.folder, error) from error

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None, "the store is closed"
        return self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done inside as a whole, or nothing of it."""
        database = self._connection
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except BaseException as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error | OSError):
                raise unusable(self.folder, error) from error
            raise

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return the rows of a query; columns are found by name."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise unusable(self.folder, error) from error

    @contextmanager
    def attached(self, other: Store) -> Iterator[sqlite3.Connection]:
        """Write with the database of another open store at hand as ``other``."""
        try:
            self._connection.execute("ATTACH ? AS other", (str(other.path),))
        except sqlite3.Error as error:
            raise unusable(other.folder, error) from error
        try:
            with self._writing() as database:
                yield database
        finally:
            self._connection.execute("DETACH other")

    # Runs and the grid

    def begin_run(self, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> int:
        """Record the start of a run; return its number."""
        with self._writing() as database:
            cursor = database.execute(
                "INSERT INTO runs (started, config, manifest) VALUES (?, ?, ?)",
                (_now(), to_json(config), to_json(manifest)),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def end_run(self, run: int, outcome: str) -> None:
        """Record how a run ended."""
        with self._writing() as database:
            database.execute(
                "UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", (_now(), outcome, run)
            )

    def set_grid(self, parts: Iterable[Part], cells: Iterable[Cell]) -> None:
        """Record the cells of the latest configuration, in their order."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR IGNORE INTO parts VALUES (?, ?, ?)",
                [(part.key, part.kind, to_json(part.description)) for part in parts],
            )
            database.execute("UPDATE cells SET position = NULL")
            database.executemany(
                "INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        cell.key,
                        position,
                        *(cell.vlm_key, cell.codec_key, cell.task_key),
                        *(cell.vlm, cell.adaptor, cell.codec, cell.level, cell.task),
                    )
                    for position, cell in enumerate(cells)
                ],
            )

    def cell(self, key: str) -> Cell:
        """Return a cell that was recorded."""
        [row] = self.rows("SELECT * FROM cells WHERE key = ?", (key,))
        return Cell(
            vlm=row["vlm_label"],
            adaptor=row["adaptor_label"],
            codec=row["codec_label"],
            level=row["level"],
            task=row["task_label"],
            vlm_key=row["vlm"],
            codec_key=row["codec"],
            task_key=row["task"],
        )

    # Images and samples

    def pictures(self) -> dict[str, Picture]:
        """Return the images that were examined, by hash; they cannot be read from here."""
        return {
            row["sha256"]: Picture(
                sha256=row["sha256"],
                file_bytes=row["bytes"],
                width=row["width"] or 0,
                height=row["height"] or 0,
                format=_source_format(row["format"]) if row["format"] else None,
                failure=row["failure"] or "",
            )
            for row in self.rows("SELECT * FROM images")
        }

    def add_pictures(self, pictures: Iterable[Picture]) -> None:
        """Add images."""
        rows = [
            (
                each.sha256,
                each.file_bytes,
                each.width or None,
                each.height or None,
                to_json(asdict(each.format)) if each.format else None,
                plain(each.failure) or None,
            )
            for each in pictures
        ]
        with self._writing() as database:
            database.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?)", rows)

    def set_absences(self, absences: Iterable[Absence]) -> None:
        """Record which cells of the latest configuration do not exist, and why."""
        rows = [
            (number, each.vlm, each.adaptor, each.codec, each.level, each.task, plain(each.reason))
            for number, each in enumerate(absences)
        ]
        with self._writing() as database:
            database.execute("DELETE FROM absences")
            database.executemany("INSERT INTO absences VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def set_samples(self, task: str, samples: Iterable[StoredSample]) -> None:
        """Record the samples of a task.

        Answers to a sample whose images or question are not what they were are dropped;
        the task's fingerprint should have told, but a wrong answer is worse than
        one more.
        """
        before = self._samples(task)
        now, changed = [], []
        for sample in samples:
            known = before.get(sample.id, sample)
            # A file that cannot be read this time is not another file.
            merged = sample.with_known(known)
            now.append(merged)
            if (merged.images, merged.question) != (
                known.with_known(merged).images,
                known.question,
            ):
                changed.append((task, sample.id))
        with self._writing() as database:
            database.executemany(
                "DELETE FROM predictions WHERE cell IN (SELECT key FROM cells WHERE task = ?)"
                " AND sample = ?",
                changed,
            )
            database.execute("DELETE FROM samples WHERE task = ?", (task,))
            database.execute("DELETE FROM sample_images WHERE task = ?", (task,))
            database.executemany(
                "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (task, each.id, position, each.question, each.fields, plain(each.cluster))
                    for position, each in enumerate(now)
                ],
            )
            database.executemany(
                "INSERT INTO sample_images VALUES (?, ?, ?, ?, ?)",
                [
                    (task, each.id, position, image, int(context))
                    for each in now
                    for position, (image, context) in enumerate(each.images)
                ],
            )

    def _samples(self, task: str) -> dict[str, StoredSample]:
        images: dict[str, list[tuple[str | None, bool]]] = {}
        for row in self.rows(
            "SELECT * FROM sample_images WHERE task = ? ORDER BY sample, position", (task,)
        ):
            images.setdefault(row["sample"], []).append((row["image"], bool(row["context"])))
        return {
            row["id"]: StoredSample(
                row["id"], tuple(images[row["id"]]), row["question"], row["fields"], row["cluster"]
            )
            for row in self.rows("SELECT * FROM samples WHERE task = ?", (task,))
        }

    def clusters(self, task: str) -> dict[str, str]:
        """Return the cluster of each sample of a task, in the order of the data."""
        rows = self.rows(
            "SELECT id, cluster FROM samples WHERE task = ? ORDER BY position", (task,)
        )
        return {row["id"]: row["cluster"] for row in rows}

    # Encodings

    def encodings(self, codec: str) -> dict[str, StoredEncoding]:
        """Return a codec's encodings by image, failures among them."""
        query = "SELECT image, bitstream, bytes, failure, transient FROM encodings WHERE codec = ?"
        return {
            image: StoredEncoding(bitstream, size, failure, bool(transient))
            for image, bitstream, size, failure, transient in self.rows(query, (codec,))
        }

    def encoded(self, codec: str) -> set[str]:
        """Return the images that a codec has encoded, or failed to encode."""
        rows = self.rows("SELECT image FROM encodings WHERE codec = ?", (codec,))
        return {row["image"] for row in rows}

    def add_encoding(self, codec: str, image: str, bitstream: bytes, seconds: float | None) -> None:
        """Keep a bitstream and the seconds that it took, None if it was not made here."""
        sha256 = write_bitstream(self.folder, bitstream)
        self.record_encoding(codec, image, sha256, len(bitstream), seconds)

    def record_encoding(
        self, codec: str, image: str, sha256: str, size: int, seconds: float | None
    ) -> None:
        """Record a bitstream that :func:`write_bitstream` has put into the run folder."""
        with self._writing() as database:
            database.execute(
                "INSERT OR REPLACE INTO encodings VALUES (?, ?, ?, ?, NULL, 0)",
                (codec, image, sha256, size),
            )
            if seconds is not None:
                database.execute("INSERT INTO timings VALUES ('encode', ?, 1, ?)", (codec, seconds))

    def add_encoding_failure(
        self, codec: str, image: str, failure: str, *, transient: bool = False
    ) -> None:
        """Record that an image could not be encoded, and whether that may pass."""
        with self._writing() as database:
            database.execute(
                "INSERT OR REPLACE INTO encodings VALUES (?, ?, NULL, NULL, ?, ?)",
                (codec, image, plain(failure), int(transient)),
            )

    def read_bitstream(self, sha256: str) -> bytes:
        """Return a bitstream.

        Raises:
            BitstreamError: its file is gone or is not what was stored.
        """
        return read_bitstream(self.folder, sha256)

    def drop_lost_bitstreams(self, *, thorough: bool) -> int:
        """Forget encodings whose files are gone or of the wrong size; return how many.

        Args:
            thorough: compare the content too.
        """
        lost = [
            (row["codec"], row["image"])
            for row in self.rows("SELECT * FROM encodings WHERE bitstream IS NOT NULL")
            if not self._is_kept(row["bitstream"], row["bytes"], thorough)
        ]
        with self._writing() as database:
            database.executemany("DELETE FROM encodings WHERE codec = ? AND image = ?", lost)
        return len(lost)

    def _is_kept(self, sha256: str, size: int, thorough: bool) -> bool:
        path = bitstream_path(self.folder, sha256)
        if not has_size(path, size):
            return False
        if thorough and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            # Were it still there, an equal size would pass for an equal bitstream.
            path.unlink()
            return False
        return True

    # Predictions and scores

    def predictions(self, cell: str) -> dict[str, str | None]:
        """Return the text of all predictions of a cell, None for a failure."""
        rows = self.rows("SELECT sample, text FROM predictions WHERE cell = ?", (cell,))
        return {row["sample"]: row["text"] for row in rows}

    def answered(self, cell: str) -> dict[str, bool]:
        """Return the samples of a cell that have a prediction, and whether it is an answer."""
        query = "SELECT sample, text IS NOT NULL FROM predictions WHERE cell = ?"
        return {sample: bool(answer) for sample, answer in self.rows(query, (cell,))}

    def count_transient(self, cell: str) -> int:
        """Return how many predictions of a cell have failed for a reason that may pass."""
        query = "SELECT count(*) FROM predictions WHERE cell = ? AND transient"
        return int(self.rows(query, (cell,))[0][0])

    def add_predictions(
        self, predictions: Iterable[Prediction], timings: Iterable[Timing] = ()
    ) -> None:
        """Add predictions, and what took how long, together."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO predictions VALUES (?, ?, ?, ?, ?, ?, ?)",
                [each.row for each in predictions],
            )
            database.executemany("INSERT INTO timings VALUES (?, ?, ?, ?)", timings)

    def forget_failures(self) -> None:
        """Forget what failed, so that it is tried again."""
        with self._writing() as database:
            database.execute("DELETE FROM predictions WHERE text IS NULL")
            database.execute("DELETE FROM encodings WHERE failure IS NOT NULL")
            database.execute("DELETE FROM fidelity WHERE failure IS NOT NULL")
            database.execute("DELETE FROM crashes")

    def forget_transient_failures(self) -> None:
        """Forget what failed for a reason that may have passed."""
        with self._writing() as database:
            database.execute("DELETE FROM predictions WHERE transient")
            database.execute("DELETE FROM encodings WHERE transient")

    def mean_seconds(self, stage: str) -> dict[str, float]:
        """Return how long a stage took for an image, or a question, by codec or VLM."""
        query = "SELECT part, sum(seconds) / sum(items) FROM timings WHERE stage = ? GROUP BY part"
        return dict(map(tuple, self.rows(query, (stage,))))

    def crashes(self, vlm: str) -> set[str]:
        """Return the images on which a VLM has ended its process."""
        rows = self.rows("SELECT image FROM crashes WHERE vlm = ?", (vlm,))
        return {row["image"] for row in rows}

    def add_crashes(self, vlm: str, images: Iterable[str], reason: str) -> None:
        """Record the images that a VLM had at hand when its process ended."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO crashes VALUES (?, ?, ?)",
                [(vlm, image, plain(reason)) for image in images],
            )

    def add_note(self, part: str, text: str) -> None:
        """Record what a reader of a part's results should know."""
        with self._writing() as database:
            database.execute("INSERT OR IGNORE INTO notes VALUES (?, ?)", (part, plain(text)))

    def notes(self) -> list[tuple[str, str]]:
        """Return all notes, as key of the part and text."""
        return [
            (row["part"], row["text"]) for row in self.rows("SELECT * FROM notes ORDER BY 1, 2")
        ]

    def count_failures(self) -> int:
        """Return how many samples have failed in the latest configuration, in all cells."""
        return int(self.rows("SELECT count(*) FROM failures")[0][0])

    def score_inputs(self, cell: str) -> str | None:
        """Return the hash of what a cell's score was made from, None without a score."""
        rows = self.rows("SELECT inputs FROM scores WHERE cell = ?", (cell,))
        return rows[0]["inputs"] if rows else None

    def set_score(
        self,
        cell: str,
        inputs: str,
        score: Score,
        rate: Rate,
        *,
        limited: bool = False,
        sums: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Keep a cell's score, verdicts and rate.

        Args:
            limited: whether the task has more images than were asked about.
            sums: by cluster, of the parts of the score's resampling.
        """
        counts = (score.samples, score.missing, score.failed, score.unextracted)
        verdicts = [
            (cell, sample, _number(score.verdicts.get(sample)), score.extracted.get(sample))
            for sample in {**score.verdicts, **score.extracted}
        ]
        with self._writing() as database:
            database.execute("DELETE FROM verdicts WHERE cell = ?", (cell,))
            database.executemany("INSERT INTO verdicts VALUES (?, ?, ?, ?)", plain(verdicts))
            database.execute(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(cell, inputs, plain(score.value), to_json(score.metrics), *plain(counts)),
                    *rate,
                    int(limited),
                ),
            )
            database.execute("DELETE FROM resamplings WHERE cell = ?", (cell,))
            if score.resampling is not None and sums:
                aggregate, factor = score.resampling.aggregate, float(score.resampling.factor)
                database.execute(
                    "INSERT INTO resamplings VALUES (?, ?, ?, ?)",
                    (cell, str(aggregate), factor, to_json(sums)),
                )

    def scored_cells(self) -> list[ScoredCell]:
        """Return the scored cells of the latest configuration, in its order."""
        rows = self.rows(
            "SELECT *, (SELECT count(DISTINCT image) FROM sample_images"
            " WHERE sample_images.task = cells.task) AS asked_images"
            " FROM cells JOIN scores ON scores.cell = cells.key"
            " WHERE position IS NOT NULL ORDER BY position"
        )
        return [
            ScoredCell(
                vlm=row["vlm_label"],
                adaptor=row["adaptor_label"],
                codec=row["codec_label"],
                level=row["level"],
                task=row["task_label"],
                value=row["value"],
                rate=row["bpp_mean"],
                failed=row["failed"],
                limited=bool(row["limited"]),
                asked_images=row["asked_images"],
            )
            for row in rows
        ]

    def drop_score(self, cell: str) -> None:
        """Forget a cell's score, because its predictions are not what they were."""
        with self._writing() as database:
            database.execute("DELETE FROM scores WHERE cell = ?", (cell,))
            database.execute("DELETE FROM resamplings WHERE cell = ?", (cell,))
            database.execute("DELETE FROM verdicts WHERE cell = ?", (cell,))

    # Fidelity

    def fidelities(self, codec: str) -> dict[str, set[tuple[str, str]]]:
        """Return metric and method of what is measured of a codec's encodings, by image."""
        found: dict[str, set[tuple[str, str]]] = {}
        for image, metric, method in self.rows(
            "SELECT image, metric, method FROM fidelity WHERE codec = ?", (codec,)
        ):
            found.setdefault(image, set()).add((metric, method))
        return found

    def add_fidelities(self, found: Sequence[StoredFidelity]) -> None:
        """Add what was measured, together; values may be infinite."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO fidelity VALUES (?, ?, ?, ?, ?, ?)", map(astuple, found)
            )

    def set_fidelity_inputs(self, codec: str, task: str, metric: str) -> str | None:
        """Return the hash of what was measured of a set, None if nothing was."""
        rows = self.rows(
            "SELECT inputs FROM set_fidelity WHERE codec = ? AND task = ? AND metric = ?",
            (codec, task, metric),
        )
        return rows[0]["inputs"] if rows else None

    def set_set_fidelity(self, found: StoredSetFidelity) -> None:
        """Keep what was measured of all images of a task."""
        with self._writing() as database:
            database.execute(
                "INSERT OR REPLACE INTO set_fidelity VALUES (?, ?, ?, ?, ?, ?)", astuple(found)
            )


def _number(value: float | None) -> float | None:
    # Tasks may give bools, and those of NumPy.
    return None if value is None else float(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _locked(folder: Path) -> int:
    """Make *folder* and lock it; return the descriptor that holds the lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write to run folder {folder}: {error.strerror}") from error
    try:
        if lock_descriptor(lock, blocking=False):
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
            return lock
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
    except OSError as error:
        os.close(lock)
        raise StoreError(f"cannot lock run folder {folder}: {error.strerror}") from error
    os.close(lock)
    by = f"process {holder}" if holder else "another process"
    raise StoreError(f"run folder {folder} is in use by {by}; wait for it, or name another")


def _open_database(path: Path, writable: bool) -> sqlite3.Connection:
    if writable:
        database = sqlite3.connect(path, isolation_level=None)
    else:
        database = sqlite3.connect(_read_only(path), uri=True, isolation_level=None)
    try:
        database.row_factory = sqlite3.Row
        _check(database, path, writable)
        if writable:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            _create(database)
    except BaseException:
        database.close()
        raise
    return database


def _read_only(path: Path) -> str:
    # Beside a log that another process is writing, SQLite needs its shared memory
    # file; without a log it must not, or a folder without write permission could
    # not be read.
    log = path.with_name(f"{path.name}-wal")
    return f"{path.absolute().as_uri()}?mode=ro" + ("" if log.exists() else "&immutable=1")


@lru_cache(maxsize=4096)
def _source_format(text: str) -> SourceFormat:
    """Return what a cell says; the same object for the same text, as many images are alike."""
    return SourceFormat(**json.loads(text))


def _check(database: sqlite3.Connection, path: Path, writable: bool) -> None:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    empty = not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if empty and writable:
        return
    if application != _APPLICATION:
        raise StoreError(f"{path} is not the database of a lossylens run")
    if version != SCHEMA_VERSION:
        advice = "upgrade lossylens" if version > SCHEMA_VERSION else "start a new run folder"
        raise StoreError(
            f"{path} has schema version {version}, this lossylens has {SCHEMA_VERSION}: {advice}"
        )
    problem = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise StoreError(f"{path} is damaged ({' '.join(problem.split())}); start a new run folder")


def _create(database: sqlite3.Connection) -> None:
    """Make the tables, unless they are there."""
    if database.execute("PRAGMA user_version").fetchone()[0]:
        return
    schema = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    database.executescript(
        f"BEGIN; {schema} PRAGMA application_id = {_APPLICATION};"
        f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )
