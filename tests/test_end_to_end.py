"""The main job with real plugins: scenes, POPE, JPEG, WebP and the nano VLM, to a report."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "lossylens"

CONFIG = """
codecs:
  jpeg: {levels: [q1, q25]}
  webp: {levels: [q0, q50]}
vlms:
  nano:
tasks:
  scenes: {images: 12, seed: 5}
  pope: {data: POPE.tsv}
run:
  out: run
"""


def lossylens(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and its report."""
    folder = tmp_path_factory.mktemp("end-to-end")
    export = ("scenes", "export", "pope", "--images", "12", "--seed", "6", "POPE.tsv")
    exported = lossylens(*export, cwd=folder)
    assert exported.returncode == 0, exported.stderr
    (folder / "config.yaml").write_text(CONFIG)
    done = lossylens("run", "config.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def scores(folder: Path) -> dict[tuple[str, str, str], sqlite3.Row]:
    database = sqlite3.connect(folder / "run" / "run.sqlite")
    database.row_factory = sqlite3.Row
    rows = database.execute("SELECT * FROM cells JOIN scores ON scores.cell = cells.key").fetchall()
    return {(row["codec_label"], row["level"], row["task_label"]): row for row in rows}


def test_every_cell_is_scored_without_failures(folder: Path) -> None:
    cells = scores(folder)
    assert len(cells) == 5 * 2
    assert all(row["failed"] == row["missing"] == 0 for row in cells.values())


@pytest.mark.parametrize(("task", "least"), [("scenes", 60), ("pope", 80)])
def test_nano_sees(folder: Path, task: str, least: float) -> None:
    assert scores(folder)["uncompressed", "raw", task]["value"] > least


def test_strong_compression_hurts(folder: Path) -> None:
    """Scenes tell: 328 questions of all topics; of POPE's 114, fewer are lost than chance moves."""
    cells = scores(folder)
    clean, crushed = cells["uncompressed", "raw", "scenes"], cells["jpeg", "q1", "scenes"]
    assert crushed["value"] < clean["value"] - 3


def test_rates_rise_with_the_level(folder: Path) -> None:
    cells = scores(folder)
    for codec, low, high in (("jpeg", "q1", "q25"), ("webp", "q0", "q50")):
        for task in ("scenes", "pope"):
            rates = [cells[codec, level, task]["bpp_mean"] for level in (low, high)]
            assert 0 < rates[0] < rates[1] < 24


def test_table_is_printed(folder: Path) -> None:
    printed = (folder / "stdout.txt").read_text()
    assert "uncompressed" in printed
    assert "index.html" in printed


def test_running_again_computes_nothing(folder: Path) -> None:
    def content() -> tuple[Any, ...]:
        database = sqlite3.connect(folder / "run" / "run.sqlite")
        return tuple(
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("encodings", "predictions", "timings")
        )

    before = content()
    assert lossylens("run", "config.yaml", cwd=folder).returncode == 0
    assert content() == before


def test_answers_equal_those_of_one_question(folder: Path, tmp_path: Path) -> None:
    """`lossylens ask` on one decoded picture gives what the batched run stored."""
    database = sqlite3.connect(folder / "run" / "run.sqlite")
    database.row_factory = sqlite3.Row
    row = database.execute(
        "SELECT predictions.text, samples.question, encodings.bitstream FROM predictions"
        " JOIN cells ON cells.key = predictions.cell"
        " JOIN shown_samples AS samples"
        " ON samples.task = cells.task AND samples.id = predictions.sample"
        " JOIN encodings ON encodings.codec = cells.codec AND encodings.image = samples.image"
        " WHERE cells.level = 'q25' AND cells.task_label = 'pope' LIMIT 1"
    ).fetchone()
    sha256 = row["bitstream"]
    bitstream = folder / "run" / "bitstreams" / sha256[:2] / sha256
    picture = tmp_path / "decoded.png"
    decoded = lossylens("decode", "jpeg", "q25", str(bitstream), str(picture), cwd=tmp_path)
    assert decoded.returncode == 0, decoded.stderr
    question = json.loads(row["question"])["text"]
    asked = lossylens("ask", "nano", str(picture), question, cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip() == row["text"]


def test_samples_have_all_their_pictures(folder: Path) -> None:
    pieces = list((folder / "run" / "report" / "samples").glob("*/pictures-*.js"))
    pictures = [
        each
        for path in pieces
        for each in json.loads(path.read_text().partition(",")[2][:-3]).values()
    ]
    assert [each for each in pictures if "why" in each] == []
    assert all(each["exact"] for each in pictures)
    assert len(pictures) == 2 * 12 * 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_opens_in_a_browser(folder: Path, opened: Any, scheme: str) -> None:
    path = folder / "run" / "report" / "index.html"
    with opened(path, width=400, color_scheme=scheme) as page:
        assert page.locator("[data-curves]").count() == 2
        page.locator("[data-curves='0']").scroll_into_view_if_needed()
        page.wait_for_selector("[data-curves='0'] .scatterlayer .trace")
        # Two codecs and the uncompressed line.
        assert page.locator("[data-curves='0'] .scatterlayer .trace").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    with opened(path.with_name("samples.html"), width=400, beside=True) as page:
        page.wait_for_selector("#detail img")
        # The original and the decoded picture.
        assert page.locator("#detail img").count() == 2
        page.locator("#detail img").nth(1).evaluate("image => image.decode()")
        # Uncompressed, and both levels of JPEG.
        assert page.locator("#detail tbody tr").count() == 3
