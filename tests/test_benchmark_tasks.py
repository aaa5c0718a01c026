"""One run of the nano VLM over the benchmarks' files, as scenes writes them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens_task_scenes.export import BENCHMARKS, export

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "lossylens"

TASKS = tuple(BENCHMARKS)

IMAGES = 2

CONFIG = """
codecs:
  jpeg: {levels: [q25]}
vlms:
  nano:
tasks:
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files and a finished run over them."""
    folder = tmp_path_factory.mktemp("benchmarks")
    config = CONFIG
    for task in TASKS:
        export(task, folder / f"{task}.tsv", max(IMAGES, BENCHMARKS[task].least), seed=11)
        config += f"  {task}: {{data: {task}.tsv}}\n"
    (folder / "config.yaml").write_text(config + "run: {out: run}\n")
    command = [str(PROGRAM), "run", "config.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def database(folder: Path) -> sqlite3.Connection:
    database = sqlite3.connect(folder / "run" / "run.sqlite")
    database.row_factory = sqlite3.Row
    return database


def test_all_tasks_are_there(database: sqlite3.Connection) -> None:
    cells = database.execute("SELECT DISTINCT task_label FROM cells").fetchall()
    assert {row["task_label"] for row in cells} == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_every_question_is_answered_and_scored(database: sqlite3.Connection, task: str) -> None:
    cells = database.execute(
        "SELECT cells.key, cells.task, scores.* FROM cells JOIN scores ON scores.cell = cells.key"
        " WHERE cells.task_label = ?",
        (task,),
    ).fetchall()
    assert len(cells) == 2  # uncompressed, and JPEG
    for cell in cells:
        assert cell["missing"] == cell["failed"] == 0
        count = "SELECT count(*) FROM {} WHERE {} = ?"
        asked = database.execute(count.format("samples", "task"), (cell["task"],)).fetchone()[0]
        answers = database.execute(count.format("predictions", "cell"), (cell["key"],)).fetchone()
        assert asked == answers[0] == cell["samples"] > 0


@pytest.mark.parametrize("task", TASKS)
def test_the_score_is_that_of_the_stored_answers(
    folder: Path,
    database: sqlite3.Connection,
    task: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`lossylens score` makes the same of the predictions in the run's store."""
    cell = database.execute(
        "SELECT cells.key, scores.metrics, scores.value FROM cells"
        " JOIN scores ON scores.cell = cells.key WHERE task_label = ? AND level = 'q25'",
        (task,),
    ).fetchone()
    stored = database.execute("SELECT sample, text FROM predictions WHERE cell = ?", (cell["key"],))
    lines = [json.dumps({"index": row["sample"], "prediction": row["text"]}) for row in stored]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines))
    words = ["--data", f"{folder / task}.tsv", "--predictions", f"{tmp_path / 'predictions.jsonl'}"]
    assert main(["score", task, *words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metrics"] == json.loads(cell["metrics"])
    assert report["primary"]["value"] == cell["value"]


def test_the_manifest_says_that_these_are_not_the_published_files(
    folder: Path, database: sqlite3.Connection
) -> None:
    """There is a warning, and the manifest has the checksums."""
    (row,) = database.execute("SELECT manifest FROM runs").fetchall()
    data = json.loads(row["manifest"])["data"]
    # There is no published file of VQAv2 to compare with.
    expected = {task: "unknown" if task == "vqav2" else "no" for task in TASKS}
    assert {task: data[task]["published"] for task in TASKS} == expected
    assert all(len(data[task]["md5"]) == 32 for task in TASKS)
    warnings = " ".join((folder / "stderr.txt").read_text().split())
    published = list(expected.values()).count("no")
    assert warnings.count("is not the published file of") == published
