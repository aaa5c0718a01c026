"""Encoding that is killed again and again ends as if nothing had happened.

``LOSSYLENS_TEST_PICTURES=2000 pytest tests/test_killed_encode.py`` does it at length.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[1] / "core" / "tests" / "sample"
PICTURES = int(os.environ.get("LOSSYLENS_TEST_PICTURES", "60"))
KILLS = 5
WORKERS = 3

CONFIG = f"""
codecs:
  blocky: {{levels: [b64, b16]}}
  jpeg: {{levels: [q5, q75]}}
  webp: {{levels: [q5]}}
vlms: {{seer: }}
tasks: {{patches: {{images: {PICTURES}, questions: 1}}}}
run: {{out: run, workers: {WORKERS}}}
"""


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    environment = {
        **os.environ,
        "PYTHONPATH": str(SAMPLE),
        "LOSSYLENS_PLUGINS": "sample,jpeg,webp,report",
        "SAMPLE_LOG": str(folder / "log"),
        # As long as a small picture takes.
        "SAMPLE_DELAY": "0.01",
    }
    command = [sys.executable, "-m", "lossylens", "run", "config.yaml", *overrides]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(folder: Path, *overrides: str) -> None:
    process = start(folder, *overrides)
    said, _ = process.communicate()
    assert process.returncode == 0, said


def stored(folder: Path) -> int:
    try:
        with closing(
            sqlite3.connect(f"file:{folder}/run/run.sqlite?mode=ro", uri=True)
        ) as database:
            return database.execute("SELECT count(*) FROM encodings").fetchone()[0]
    except sqlite3.OperationalError:  # not there yet
        return 0


def contents(folder: Path) -> tuple[list[tuple], dict[str, bytes]]:
    with closing(sqlite3.connect(folder / "run" / "run.sqlite")) as database:
        rows = database.execute("SELECT * FROM encodings").fetchall()
    files = (folder / "run" / "bitstreams").rglob("*")
    return rows, {path.name: path.read_bytes() for path in files if path.is_file()}


def encoded(folder: Path) -> Counter[str]:
    """Return how often each image was encoded at each level by the codec that keeps a log."""
    lines = (folder / "log").read_text().splitlines()
    return Counter(line for line in lines if line.startswith("encode"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder)
    return folder


def test_killed_and_resumed(tmp_path: Path, undisturbed: Path) -> None:
    chance = random.Random(4)
    share = 5 * PICTURES // (KILLS + 1)
    kills = 0
    while kills < KILLS:
        process = start(tmp_path)
        aim = stored(tmp_path) + chance.randint(1, share)
        while stored(tmp_path) < aim and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None, "it was to be killed in the middle"
        process.kill()
        process.communicate()
        kills += 1
    assert stored(tmp_path) < 5 * PICTURES
    finish(tmp_path)
    rows, bitstreams = contents(tmp_path)
    assert len(rows) == 5 * PICTURES
    assert (rows, bitstreams) == contents(undisturbed)
    again = encoded(tmp_path).total() - len(encoded(tmp_path))
    print(f"{PICTURES} pictures, {kills} kills, {again} pictures encoded again")
    # One that each worker is at, and the few whose answers are on their way.
    assert again <= 4 * WORKERS * kills


def test_runs_that_share_a_cache_encode_once(tmp_path: Path, undisturbed: Path) -> None:
    cache = f"run.cache={tmp_path / 'cache'}"
    folders = [tmp_path / name for name in ("first", "second")]
    both = [start(folder, cache) for folder in folders]
    for process in both:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    finish(tmp_path / "third", cache)
    expected = contents(undisturbed)
    assert all(contents(tmp_path / name) == expected for name in ("first", "second", "third"))
    assert encoded(folders[0]) + encoded(folders[1]) == encoded(undisturbed)
    assert not encoded(tmp_path / "third")


def test_runs_with_other_options_share_nothing_wrong(tmp_path: Path) -> None:
    cache = f"run.cache={tmp_path / 'cache'}"
    finish(tmp_path / "first", cache, "tasks.patches.images=3")
    finish(tmp_path / "second", cache, "tasks.patches.images=3", "codecs.blocky.offset=1")
    assert encoded(tmp_path / "first") == encoded(tmp_path / "second")
    assert contents(tmp_path / "first") != contents(tmp_path / "second")
