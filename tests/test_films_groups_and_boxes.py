"""One run over films, groups of pictures and boxes, some of which cannot be asked about."""

from __future__ import annotations

import base64
import csv
import io
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lossylens_report.reading import read_run
from lossylens_report.sheets import WIDTH
from lossylens_task_scenes.export import export
from PIL import Image

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "lossylens"

CONFIG = """
codecs:
  jpeg: {levels: [q25]}
vlms:
  nano:
tasks:
  refcoco: {data: refcoco.tsv}
  few-shot: {data: classes, groups: 12, compress: query}
  videomme: {data: films.tsv, pictures: films, frames: 4}
run: {out: run}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, in whose data one row or picture of each task is spoilt."""
    folder = tmp_path_factory.mktemp("films")
    export("refcoco", folder / "refcoco.tsv", 3, seed=3, size=96)
    export("few-shot", folder / "classes", 16, seed=3, size=96)
    export("video-mme", folder / "films.tsv", 2, seed=3, size=96)
    csv.field_size_limit(10**9)
    with (folder / "refcoco.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    rows[1]["answer"] = "[10, 10, 500, 20]"
    with (folder / "refcoco.tsv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    next((folder / "classes" / "star").iterdir()).unlink()
    for picture in sorted((folder / "films" / "film0001").glob("*.png"))[2:]:
        picture.unlink()
    (folder / "config.yaml").write_text(CONFIG)
    command = [str(PROGRAM), "run", "config.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    # Finished, with failed samples.
    assert done.returncode == 1, done.stdout + done.stderr
    return folder


@pytest.fixture
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(folder / "run" / "run.sqlite")
    yield database
    database.close()


@pytest.mark.parametrize(
    ("task", "samples", "problem"),
    [
        ("refcoco", 3, "row 2 (index 1): the box [10, 10, 500, 20]"),
        ("few-shot", 12, "star: 1 image where group"),
        ("video-mme", 6, "films/film0001 has 2 frames, fewer than the 4 that are asked for"),
    ],
)
def test_a_bad_row_fails_alone_and_is_counted(
    database: sqlite3.Connection, task: str, samples: int, problem: str
) -> None:
    scores = database.execute(
        "SELECT scores.samples, scores.failed, scores.missing FROM scores"
        " JOIN cells ON cells.key = scores.cell WHERE cells.task_label = ?",
        (task,),
    ).fetchall()
    assert len(scores) == 2
    reasons = database.execute(
        "SELECT DISTINCT predictions.failure FROM predictions"
        " JOIN cells ON cells.key = predictions.cell"
        " WHERE cells.task_label = ? AND predictions.failure IS NOT NULL",
        (task,),
    ).fetchall()
    assert reasons
    for (reason,) in reasons:
        assert problem in reason
    for found, failed, missing in scores:
        assert (found, missing) == (samples, 0)
        assert 0 < failed < samples


def test_context_is_not_encoded(database: sqlite3.Connection) -> None:
    """Of the groups' pictures, the queries alone are."""
    for images, context in database.execute(
        "SELECT scores.images, count(DISTINCT sample_images.image) FROM scores"
        " JOIN cells ON cells.key = scores.cell"
        " JOIN sample_images ON sample_images.task = cells.task AND NOT sample_images.context"
        " WHERE cells.task_label = 'few-shot' AND sample_images.image IS NOT NULL"
        " GROUP BY cells.key"
    ):
        assert images == context < 15


def test_the_report_has_sheets_and_rates_per_second(folder: Path, monkeypatch, browse) -> None:
    monkeypatch.chdir(folder)
    reading = read_run(folder / "run")
    assert any("kbit per second of film" in note.text for note in reading.results.notes)
    content = browse([reading])
    shown = {key.rpartition(" original")[0] for key in content["pictures"]}
    by_task = {item["task"]: item for item in content["items"] if f"run {item['image']}" in shown}
    assert set(by_task) == {"refcoco", "few-shot", "video-mme"}
    assert len(by_task["refcoco"]["box"]) == 4
    for task in ("few-shot", "video-mme"):
        key = f"run {by_task[task]['image']}"
        original, compressed = (
            content["pictures"][f"{key} {name}"] for name in ("original", "jpeg q25")
        )
        assert original["src"] != compressed["src"]
        assert compressed["bpp"] > 0
        file = io.BytesIO(base64.b64decode(compressed["src"].partition(",")[2]))
        with Image.open(file) as image:
            # Two or three pictures of 96 pixels stand in a row.
            assert 2 * 96 < image.width <= WIDTH
