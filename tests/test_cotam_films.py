"""Films behind CoTAM's codec with its adaptor: frame by frame, each with a map of its own."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lossylens.registry.plugins import load_registry
from lossylens.store.bitstreams import read_bitstream
from lossylens_report.reading import read_run
from lossylens_task_scenes.export import export

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "lossylens"
GUIDED = {"variant": "nano", "clip": "nano-clip", "device": "cpu"}

CONFIG = """
codecs:
  guided: {plugin: cotam-elic, variant: nano, clip: nano-clip, device: cpu, levels: [lambda0.0256]}
  squares: {plugin: jpeg, levels: [q25], square: {side: 64}}
vlms: {nano: }
adaptors: {cotam: }
tasks:
  videomme: {data: films.tsv, pictures: films, frames: 2}
run: {out: run}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run over two films of two frames."""
    folder = tmp_path_factory.mktemp("films")
    export("video-mme", folder / "films.tsv", 2, seed=3, size=96)
    (folder / "config.yaml").write_text(CONFIG)
    command = [str(PROGRAM), "run", "config.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(folder / "run" / "run.sqlite")
    yield database
    database.close()


def encodings(database: sqlite3.Connection, label: str) -> list[tuple[str, int, int]]:
    """Return hash of the bitstream, bytes, and pixels of what is encoded behind a codec."""
    return database.execute(
        "SELECT DISTINCT encodings.bitstream, encodings.bytes, images.width * images.height"
        " FROM encodings JOIN images ON images.sha256 = encodings.image"
        " JOIN cells ON cells.codec = encodings.codec WHERE cells.codec_label = ?",
        (label,),
    ).fetchall()


def test_each_frame_has_a_map_of_its_own(folder: Path, database: sqlite3.Connection) -> None:
    found = encodings(database, "guided")
    assert len(found) == 4
    codec = load_registry().build_codec("cotam-elic", "lambda0.0256", GUIDED)
    sides = {codec._unpack(read_bitstream(folder / "run", each)).side for each, _, _ in found}
    assert len(sides) == 4
    assert all(len(side) == 13 for side in sides)


def test_the_adaptor_answers_and_rates_are_of_all_frames(
    folder: Path, database: sqlite3.Connection
) -> None:
    rows = database.execute(
        "SELECT cells.adaptor_label, scores.samples, scores.failed, scores.bpp_mean FROM scores"
        " JOIN cells ON cells.key = scores.cell WHERE cells.codec_label = 'guided'"
    ).fetchall()
    assert {row[0] for row in rows} == {"none", "cotam"}
    found = encodings(database, "guided")
    expected = sum(8 * size / pixels for _, size, pixels in found) / len(found)
    for _, samples, failed, rate in rows:
        assert samples
        assert failed == 0
        assert rate == pytest.approx(expected)


def test_rates_of_squares_are_a_note_of_their_own(
    folder: Path, database: sqlite3.Connection
) -> None:
    notes = [note.text for note in read_run(folder / "run").results.notes]
    [note] = [text for text in notes if "bits per pixel of the square" in text]
    found = encodings(database, "squares")
    expected = sum(8 * size for _, size, _ in found) / len(found) / 64**2
    assert f"squares q25 {expected:.4f}." in note
    assert "guided" not in note
