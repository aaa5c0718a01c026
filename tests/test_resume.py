"""Real runs, killed, interrupted and starved of disk, end as undisturbed ones do."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[1] / "core" / "tests" / "sample"
PROGRAM = Path(sys.executable).parent / "lossylens"

CONFIG = """
codecs:
  blocky: {levels: [b64, b16]}
vlms:
  seer: {batch_images: 3}
tasks:
  patches: {images: 24, questions: 4, troubles: "refused,unanswerable,truncated,undecodable"}
  more: {plugin: patches, images: 28, questions: 1}
run: {out: run, workers: 2}
"""

#: Tables that are the same however often a run was interrupted.
LASTING = (
    "parts",
    "images",
    "encodings",
    "samples",
    "sample_images",
    "cells",
    "predictions",
    "scores",
    "resamplings",
    "verdicts",
)


class Runs:
    """A folder in which runs of one configuration are started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "run"
        self.log = folder / "log"
        self.names: dict[str, str] = {}
        folder.mkdir()
        (folder / "config.yaml").write_text(CONFIG)

    def start(self, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, "run", "config.yaml", *overrides],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(SAMPLE),
                "LOSSYLENS_PLUGINS": "sample,report",
                "SAMPLE_LOG": str(self.log),
                "SAMPLE_DELAY": "0.02",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, *overrides: str) -> None:
        process = self.start(*overrides, SAMPLE_DELAY="0")
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1, errors
        assert "samples failed" in errors

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for_lines(self, process: subprocess.Popen[str], count: int, what: str = "") -> bool:
        """Wait for *count* new lines in the log; return False if the run ends before."""
        before = len(self.lines())
        while sum(line.startswith(what) for line in self.lines()[before:]) < count:
            if process.poll() is not None:
                return False
            time.sleep(0.002)
        return True

    def wait_for_progress(self, process: subprocess.Popen[str], count: int, step: str) -> bool:
        """Wait for *count* lines, or the first of another step; False if the run ends before."""
        before = len(self.lines())
        while process.poll() is None:
            new = self.lines()[before:]
            if len(new) >= count or any(not line.startswith(step) for line in new):
                return True
            time.sleep(0.002)
        return False

    def contents(self) -> dict[str, object]:
        """Return all that should not depend on interruptions."""
        found: dict[str, object] = {}
        with closing(sqlite3.connect(self.out / "run.sqlite")) as database:
            for table in LASTING:
                found[table] = database.execute(f"SELECT * FROM {table}").fetchall()
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for path in (self.out / "bitstreams").rglob("*"):
            if path.is_file():
                found[path.name] = path.read_bytes()
        return found

    def outcomes(self) -> list[str | None]:
        with closing(sqlite3.connect(self.out / "run.sqlite")) as database:
            return [row[0] for row in database.execute("SELECT outcome FROM runs ORDER BY id")]

    def committed(self) -> set[str]:
        """Return the lines of the log whose results are in the store."""
        if not (self.out / "run.sqlite").exists():
            return set()
        with closing(sqlite3.connect(self.out / "run.sqlite")) as database:
            if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                return set()
            return {*self._encodings(database), *self._answers(database), *self._scores(database)}

    def _encodings(self, database: sqlite3.Connection) -> Iterator[str]:
        query = "SELECT DISTINCT image, level FROM encodings JOIN cells USING (codec)"
        for image, level in database.execute(query):
            yield f"encode {level} {self.names[image]}"

    def _answers(self, database: sqlite3.Connection) -> Iterator[str]:
        query = """
            SELECT level, samples.image, question FROM predictions
            JOIN cells ON cells.key = cell
            JOIN shown_samples AS samples
                ON samples.task = cells.task AND samples.id = sample
            WHERE samples.image IN (SELECT sha256 FROM images WHERE failure IS NULL)
        """
        for level, image, question in database.execute(query):
            # A decoded image has the name of the original.
            yield f"answer {level} {self.names[image]} {json.loads(question)['text']}"

    def _scores(self, database: sqlite3.Connection) -> Iterator[str]:
        for cell, task in database.execute("SELECT key, task FROM cells JOIN scores ON cell = key"):
            query = (
                "SELECT sample, text FROM predictions JOIN samples ON id = sample"
                " WHERE cell = ? AND task = ? ORDER BY position"
            )
            predictions = dict(database.execute(query, (cell, task)).fetchall())
            digest = hashlib.sha256(repr(predictions).encode()).hexdigest()
            yield f"score {len(predictions)} {digest}"


def leftovers(folder: Path) -> list[int]:
    """Return the processes that a run in *folder* has left, after giving them time to end."""
    mark = f"SAMPLE_LOG={folder}/".encode()
    for _ in range(100):
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (path / "environ").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
        if not found:
            break
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    """The names in the log of all images by the hash of their file."""
    sys.path.insert(0, str(SAMPLE))
    try:
        from lossylens_sample.codec import name_of
        from lossylens_sample.task import read
    finally:
        sys.path.remove(str(SAMPLE))
    found = {}
    for troubles in (["refused", "unanswerable", "", "undecodable"], []):
        for index in range(28):
            data = read(1, index, troubles[index] if index < len(troubles) else "")
            found[hashlib.sha256(data).hexdigest()] = name_of(Image.open(io.BytesIO(data)))
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    runs = Runs(tmp_path_factory.mktemp("undisturbed") / "folder")
    runs.finish()
    return runs.contents()


@pytest.fixture
def runs(tmp_path: Path, names: dict[str, str]) -> Runs:
    runs = Runs(tmp_path / "folder")
    runs.names = names
    return runs


#: How many calls a run gets before it is killed, by the step that it is at.
PATIENCE = {"encode": (1, 12), "answer": (4, 60), "score": (1, 1)}


def test_killed_at_random_points(runs: Runs, undisturbed: dict[str, object]) -> None:
    chance = random.Random(20)
    killed_at: list[str] = []
    committed: set[str] = set()
    step = "encode"
    while True:
        before = len(runs.lines())
        process = runs.start()
        # Some kills come early, while nothing or little is done.
        count = chance.randint(*PATIENCE[step]) if chance.random() > 0.1 else 0
        ended = not runs.wait_for_progress(process, count, step)
        if not ended:
            time.sleep(chance.uniform(0, 0.5 if count == 0 else 0.05))
            process.kill()
        process.communicate()
        new = runs.lines()[before:]
        repeated = committed.intersection(new)
        assert not repeated
        committed = runs.committed()
        step = new[-1].split()[0] if new else step
        if ended or process.returncode == 1:
            break
        assert process.returncode == -signal.SIGKILL
        killed_at.append(step)
        assert len(killed_at) < 80
    assert len(killed_at) >= 15
    assert set(killed_at) == {"encode", "answer", "score"}
    assert runs.contents() == undisturbed
    # A run can be killed while it writes its report, too.
    assert set(runs.outcomes()) == {None, "done"}
    assert runs.outcomes()[-1] == "done"
    assert leftovers(runs.folder) == []


@pytest.mark.parametrize("step", ["encode", "answer", "score"])
@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted(runs: Runs, undisturbed: dict[str, object], step: str, workers: int) -> None:
    process = runs.start(f"run.workers={workers}", SAMPLE_DELAY="0.05")
    assert runs.wait_for_lines(process, 3, step)
    # As a terminal does, to all of its foreground processes.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "the same command goes on" in errors
    assert runs.outcomes() == ["interrupted"]
    assert leftovers(runs.folder) == []
    before, committed = len(runs.lines()), runs.committed()
    runs.finish(f"run.workers={workers}")
    assert not committed.intersection(runs.lines()[before:])
    assert runs.contents() == undisturbed


def test_interrupted_while_a_decoder_takes_its_time(
    runs: Runs, undisturbed: dict[str, object]
) -> None:
    process = runs.start(SAMPLE_DELAY="0", SAMPLE_DECODE_DELAY="600")
    # The first answers are those about source images; then the decoder is at work.
    assert runs.wait_for_lines(process, 100, "answer")
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert leftovers(runs.folder) == []
    runs.finish()
    assert runs.contents() == undisturbed


@pytest.mark.parametrize("limit", [1000, 30_000, 60_000, 200_000, 500_000])
def test_out_of_space(runs: Runs, undisturbed: dict[str, object], limit: int) -> None:
    """A limit on the size of files stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        process = runs.start(SAMPLE_LOG=os.devnull)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("lossylens: ")
    runs.finish()
    assert runs.contents() == undisturbed


def test_two_at_once(runs: Runs) -> None:
    first = runs.start()
    assert runs.wait_for_lines(first, 2)
    second = runs.start()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2
    complaint = f"run folder run is in use by process {first.pid}; wait for it"
    assert errors.splitlines()[-1].startswith(f"lossylens: {complaint}")
    first.kill()
    first.communicate()
    # The lock of a killed process is gone with it.
    runs.finish()
