"""The run folder: what it keeps, and what it refuses."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lossylens.errors import BitstreamError, StoreError
from lossylens.store.database import SCHEMA_VERSION, Store
from lossylens.store.jsonable import to_json
from lossylens.store.records import Cell, Part, Picture, Prediction, Rate, StoredSample
from lossylens.task import Resampling, Score

CODEC, VLM, TASK = Part("codec", {"n": 1}), Part("vlm", {"n": 2}), Part("task", {"n": 3})
CELL = Cell("v", "none", "c", "l", "t", VLM.key, CODEC.key, TASK.key)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def sample(name: str, image: str | None = "f00d", question: str = "{}") -> StoredSample:
    return StoredSample(name, ((image, False),), question, "{}", image or "")


def filled(folder: Path) -> Store:
    """Return an open store with one cell of two samples, one of them failed."""
    store = Store(folder, writable=True)
    store.set_grid([CODEC, VLM, TASK], [CELL])
    store.add_pictures([Picture("f00d", 9, 4, 4)])
    store.set_samples(TASK.key, [sample("1"), sample("2")])
    store.add_encoding(CODEC.key, "f00d", b"bits", 0.5)
    store.add_predictions(
        [Prediction(CELL.key, "1", "yes"), Prediction(CELL.key, "2", None, "answer", "why")]
    )
    return store


def test_what_is_kept_is_there_when_opened_again(folder: Path) -> None:
    with filled(folder) as store:
        store.set_score(
            CELL.key, "abc", Score({"m": {"x": 1}}, 50.0, {"1": 1.0}, {"1": "y"}), Rate(1, 2.0, 3.0)
        )
    with Store(folder, writable=False) as store:
        assert store.predictions(CELL.key) == {"1": "yes", "2": None}
        row = store.encodings(CODEC.key)["f00d"]
        assert store.read_bitstream(row.bitstream) == b"bits"
        assert store.score_inputs(CELL.key) == "abc"
        assert store.count_failures() == 1
        [score] = store.rows("SELECT * FROM scores JOIN verdicts USING (cell)")
        assert (score["value"], score["bpp_mean"], score["extracted"]) == (50.0, 2.0, "y")
        assert score["metrics"] == '{"m":{"x":1}}'


def test_a_score_that_is_no_number_is_null(folder: Path) -> None:
    with filled(folder) as store:
        store.set_score(CELL.key, "abc", Score({}, float("nan")), Rate(0, None, None))
        assert store.rows("SELECT value FROM scores")[0]["value"] is None


def test_sums_are_kept_replaced_and_dropped_with_their_score(folder: Path) -> None:
    score = Score({"m": 50.0}, 50.0, resampling=Resampling.mean({"1": 1.0, "2": 0.0}, 100))
    with filled(folder) as store:
        clusters = store.clusters(TASK.key)
        assert clusters == {"1": "f00d", "2": "f00d"}
        store.set_score(
            CELL.key, "a", score, Rate(1, 2.0, 2.0), sums=score.resampling.sums(clusters)
        )
        [row] = store.rows("SELECT * FROM resamplings")
        assert tuple(row) == (CELL.key, "mean", 100.0, '{"f00d":[1.0,2.0]}')
        store.set_score(CELL.key, "b", Score({}, 1.0), Rate(1, 2.0, 2.0))
        assert store.rows("SELECT * FROM resamplings") == []
        store.set_score(CELL.key, "c", score, Rate(1, 2.0, 2.0), sums={"f00d": (1.0, 2.0)})
        store.drop_score(CELL.key)
        assert store.rows("SELECT * FROM resamplings") == []


def test_a_file_that_cannot_be_read_this_time_keeps_its_cluster(folder: Path) -> None:
    with filled(folder) as store:
        gone = dataclasses.replace(sample("1", None), cluster="unread:1")
        store.set_samples(TASK.key, [gone, sample("2")])
        assert store.clusters(TASK.key) == {"1": "f00d", "2": "f00d"}


def test_what_plugins_return_is_made_fit_to_be_kept(folder: Path) -> None:
    score = Score(
        {"n": np.int64(3), "x": np.float32(0.5), "bad": float("inf")},
        np.float64(1),
        {"1": np.bool_(True)},
        samples=np.int64(2),
    )
    with filled(folder) as store:
        # Half a surrogate pair, as a model that is cut off can write it.
        store.add_predictions([Prediction(CELL.key, "1", "\ud83d!")])
        assert store.predictions(CELL.key)["1"] == "?!"
        store.set_score(CELL.key, "abc", score, Rate(1, 2.0, 2.0))
        [row] = store.rows("SELECT * FROM scores")
        assert row["metrics"] == '{"bad":null,"n":3,"x":0.5}'
        assert (row["value"], row["samples"]) == (1.0, 2)
        assert store.rows("SELECT verdict FROM verdicts")[0]["verdict"] == 1.0


def test_cells_of_an_older_configuration_stay_but_do_not_count(folder: Path) -> None:
    other = Cell("v", "none", "c", "m", "t", VLM.key, "0", TASK.key)
    with filled(folder) as store:
        store.set_grid([], [other])
        assert store.predictions(CELL.key)
        assert store.count_failures() == 0
        store.set_grid([], [other, CELL])
        assert store.count_failures() == 1


def test_answers_to_a_changed_question_are_dropped(folder: Path) -> None:
    with filled(folder) as store:
        store.set_samples(TASK.key, [sample("1", question='{"a":1}'), sample("2", None)])
        # An image that cannot be read this time is no other image.
        assert store.predictions(CELL.key) == {"2": None}
        assert store.rows("SELECT image FROM shown_samples WHERE id = '2'")[0]["image"] == "f00d"


def test_failures_can_be_forgotten(folder: Path) -> None:
    with filled(folder) as store:
        store.add_encoding_failure(CODEC.key, "beef", "ugly")
        store.forget_failures()
        assert store.predictions(CELL.key) == {"1": "yes"}
        assert set(store.encodings(CODEC.key)) == {"f00d"}


def test_what_may_pass_is_forgotten_by_itself(folder: Path) -> None:
    with filled(folder) as store:
        store.add_encoding_failure(CODEC.key, "beef", "no space", transient=True)
        store.add_predictions([Prediction(CELL.key, "1", None, "answer", "busy", transient=True)])
        assert store.count_transient(CELL.key) == 1
        store.forget_transient_failures()
        assert store.predictions(CELL.key) == {"2": None}
        assert set(store.encodings(CODEC.key)) == {"f00d"}


def test_equal_bitstreams_are_one_file(folder: Path) -> None:
    with filled(folder) as store:
        store.add_encoding(CODEC.key, "beef", b"bits", 0.5)
        files = [path for path in (folder / "bitstreams").rglob("*") if path.is_file()]
        assert [file.read_bytes() for file in files] == [b"bits"]


def test_lost_bitstreams_are_forgotten(folder: Path) -> None:
    with filled(folder) as store:
        store.add_encoding(CODEC.key, "beef", b"other bits", 0.5)
        assert store.drop_lost_bitstreams(thorough=True) == 0
        [file] = [each for each in folder.rglob("*") if each.is_file() and each.stat().st_size == 4]
        file.write_bytes(b"bitz")
        with pytest.raises(BitstreamError, match="damaged"):
            store.read_bitstream(file.name)
        assert store.drop_lost_bitstreams(thorough=False) == 0
        assert store.drop_lost_bitstreams(thorough=True) == 1
        with pytest.raises(BitstreamError, match="cannot read"):
            store.read_bitstream(file.name)
        assert set(store.encodings(CODEC.key)) == {"beef"}
        # As after a power loss: the row is there, the content is not.
        (folder / "bitstreams").rename(folder / "gone")
        assert store.drop_lost_bitstreams(thorough=False) == 1


def test_a_transaction_is_all_or_nothing(folder: Path) -> None:
    with filled(folder) as store:
        row = Prediction(CELL.key, "3", "text")
        with pytest.raises(StoreError, match="cannot use run folder"):
            store.add_predictions([row], [("too", "few")])
        assert "3" not in store.predictions(CELL.key)
        store.add_predictions([row])
        assert "3" in store.predictions(CELL.key)


def test_a_bitstream_that_cannot_be_written_leaves_no_row(folder: Path) -> None:
    with filled(folder) as store:
        (folder / "bitstreams" / f"writing-{os.getpid()}").mkdir()
        with pytest.raises(StoreError, match="Is a directory"):
            store.add_encoding(CODEC.key, "beef", b"other", 0.5)
        assert "beef" not in store.encodings(CODEC.key)


def test_what_a_killed_process_had_begun_is_removed(folder: Path) -> None:
    with filled(folder):
        (folder / "bitstreams" / "writing-1").write_bytes(b"bi")
    files = [path for path in (folder / "bitstreams").rglob("*") if path.is_file()]
    assert [file.read_bytes() for file in files] == [b"bits"]


def test_a_store_is_locked_against_other_processes(folder: Path) -> None:
    script = f"""
from pathlib import Path
from lossylens.store.database import Store
Store(Path({str(folder)!r}), writable=True)
"""
    with filled(folder):
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert f"is in use by process {os.getpid()}" in other.stderr
        with pytest.raises(StoreError, match="in use"):
            Store(folder, writable=True)
        # Reading is possible meanwhile.
        with Store(folder, writable=False) as reader:
            assert reader.predictions(CELL.key)
    Store(folder, writable=True).close()


def test_what_is_no_run_folder(folder: Path) -> None:
    with pytest.raises(StoreError, match="is no run folder"):
        Store(folder, writable=False)
    assert not folder.exists()


@pytest.mark.parametrize("writable", [True, False])
def test_damage_is_one_line(folder: Path, writable: bool) -> None:
    filled(folder).close()
    path = folder / "run.sqlite"
    content = path.read_bytes()
    for damaged in (b"not a database" * 99, content[:5000], content[:4096] + b"\xff" * 20000):
        path.write_bytes(damaged)
        with pytest.raises(StoreError) as caught:
            Store(folder, writable=writable)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
    path.write_bytes(content)
    Store(folder, writable=writable).close()


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize(
    ("version", "advice"), [(SCHEMA_VERSION + 1, "upgrade lossylens"), (0, "new run folder")]
)
def test_another_schema_version(folder: Path, version: int, advice: str, writable: bool) -> None:
    filled(folder).close()
    with sqlite3.connect(folder / "run.sqlite") as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    with pytest.raises(StoreError, match=advice):
        Store(folder, writable=writable)


def test_a_database_of_another_program(folder: Path) -> None:
    folder.mkdir()
    with sqlite3.connect(folder / "run.sqlite") as database:
        database.execute("CREATE TABLE recipes (name)")
    database.close()
    with pytest.raises(StoreError, match="not the database of a lossylens run"):
        Store(folder, writable=True)


def test_killed_while_the_database_was_made(folder: Path) -> None:
    folder.mkdir()
    (folder / "run.sqlite").touch()
    filled(folder).close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write to run folder"):
        Store(tmp_path / "file" / "run", writable=True)


def test_a_closed_store_can_be_read_without_permission_to_write(folder: Path) -> None:
    filled(folder).close()
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    try:
        with Store(folder, writable=False) as store:
            assert store.predictions(CELL.key)
        assert sorted(folder.iterdir()) == before
        if os.geteuid() != 0:
            with pytest.raises(StoreError):
                Store(folder, writable=True)
    finally:
        folder.chmod(0o755)


def test_json_is_canonical() -> None:
    assert to_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
