"""Shares of a run, and run folders joined into one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lossylens.cli import main
from lossylens.errors import ConfigError, StoreError
from lossylens.grid.config import load_config
from lossylens.grid.shard import Shard
from lossylens.store.merging import merge

CONFIG = """
codecs: {blocky: {levels: [b64, b16]}}
vlms: {seer: }
tasks:
  patches: {images: 9, questions: 2, troubles: "refused,unanswerable,truncated,undecodable"}
  more: {plugin: patches, images: 12, questions: 1}
run: {out: whole, workers: 1, fidelity: [psnr]}
"""

#: What the final start makes of what is merged is the same, row by row.
LASTING = {
    **dict.fromkeys(("parts", "cells", "images", "samples", "sample_images"), "*"),
    **dict.fromkeys(("encodings", "predictions", "scores", "verdicts", "fidelity"), "*"),
    "timings": "stage, part, sum(items)",
}


def contents(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    with closing(sqlite3.connect(folder / "run.sqlite")) as database:
        for table, columns in LASTING.items():
            group = " GROUP BY stage, part" if "sum(" in columns else ""
            rows = database.execute(f"SELECT {columns} FROM {table}{group}").fetchall()
            found[table] = sorted(rows, key=repr)
    for section in ("bitstreams", "features"):
        for path in (folder / section).rglob("*"):
            if path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a whole run and its three shares are."""
    return tmp_path_factory.mktemp("shares")


@pytest.fixture
def folder(sample: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (finished / "config.yaml").exists():
        monkeypatch.chdir(finished)
        (finished / "config.yaml").write_text(CONFIG)
        assert main(["run", "config.yaml"]) == 1
        for number in (1, 2, 3):
            main(["run", "config.yaml", "--shard", f"{number}/3"])
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


SHARES = [Path(f"whole-{number}-of-3") for number in (1, 2, 3)]


def test_every_image_is_in_one_share() -> None:
    shards = [Shard(number, 7) for number in range(1, 8)]
    for number in range(200):
        assert sum(shard.has(f"{number:064x}") for shard in shards) == 1


def test_shares_are_parts_of_the_whole(folder: Path) -> None:
    encoded = []
    for each in SHARES:
        with closing(sqlite3.connect(each / "run.sqlite")) as database:
            encoded += database.execute("SELECT codec, image FROM encodings").fetchall()
            assert database.execute("SELECT count(*) FROM scores").fetchone() == (0,)
    assert len(encoded) == len(set(encoded)) == len(contents(folder / "whole")["encodings"])


def test_merged_shares_are_the_whole(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["merge", *map(str, SHARES[:2]), "--out", "joined"]) == 0
    assert main(["merge", *map(str, SHARES), "--out", "joined"]) == 0
    once = contents(folder / "joined")
    assert main(["merge", *map(str, SHARES), "--out", "joined"]) == 0
    assert contents(folder / "joined") == once
    assert "joined: " in capsys.readouterr().out
    monkeypatch.setenv("SAMPLE_LOG", str(folder / "log"))
    assert main(["run", "config.yaml", "run.out=joined"]) == 1
    calls = {line.split()[0] for line in (folder / "log").read_text().splitlines()}
    assert calls == {"score"}
    assert contents(folder / "joined") == contents(folder / "whole")


def changed(folder: Path, query: str) -> None:
    with closing(sqlite3.connect(folder / "run.sqlite")) as database, database:
        assert database.execute(query).rowcount > 0


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("UPDATE predictions SET text = 'other' WHERE text IS NOT NULL", "has other predictions"),
        ("UPDATE encodings SET bytes = 1", "has other encodings"),
        ("UPDATE images SET width = 1", "has other images"),
        ("UPDATE cells SET codec = 'x' WHERE level = 'b16'", "plugins, options or data differs"),
        ("DELETE FROM cells WHERE task_label = 'more'", "is of another configuration"),
        ("DELETE FROM cells", "its run has not begun"),
    ],
)
def test_what_differs_is_refused(folder: Path, query: str, message: str) -> None:
    merge(Path("joined"), SHARES)
    before = contents(folder / "joined")
    changed(SHARES[1], query)
    with pytest.raises(StoreError, match=message):
        merge(Path("joined"), SHARES)
    assert contents(folder / "joined") == before


def test_nothing_is_taken_of_what_is_refused(folder: Path) -> None:
    """Bitstreams and features of a share come only after its tables were found to be equal."""
    keep_features(SHARES[1], b"some")
    merge(Path("joined"), SHARES[:1])
    before = contents(folder / "joined")
    changed(SHARES[1], "UPDATE parts SET description = '{}' WHERE kind = 'task'")
    with pytest.raises(StoreError, match=r"has other parts .* nothing of it was taken"):
        merge(Path("joined"), SHARES[1:2])
    assert contents(folder / "joined") == before


def keep_features(share: Path, features: bytes) -> None:
    path = share / "features" / "codec" / "ab" / "abcdef"
    path.parent.mkdir(parents=True)
    path.write_bytes(features)


def test_features_that_differ_are_refused(folder: Path) -> None:
    """They are results like rows, and of equal size whatever they say."""
    for share, features in zip(SHARES, (b"some", b"some", b"else"), strict=True):
        keep_features(share, features)
    merge(Path("joined"), SHARES[:2])
    before = contents(folder / "joined")
    assert before["features/codec/ab/abcdef"] == b"some"
    with pytest.raises(StoreError, match=r"has other features .* \(image abcdef\)"):
        merge(Path("joined"), SHARES)
    assert contents(folder / "joined") == before


#: A failure in every table that has some.
FAIL = {
    "images": "width = NULL, height = NULL, format = NULL, failure = 'out of luck'",
    "encodings": "bitstream = NULL, bytes = NULL, failure = 'out of luck'",
    "predictions": "text = NULL, usage = NULL, stage = 'answer', failure = 'out of luck'",
    "fidelity": "value = NULL, failure = 'out of luck'",
}


@pytest.fixture
def failed(folder: Path) -> Path:
    """The first share before it was done again, when nothing of it had a result."""
    for table, failure in FAIL.items():
        changed(SHARES[0], f"UPDATE {table} SET {failure} WHERE failure IS NULL")
    shutil.rmtree(SHARES[0] / "bitstreams")
    before = shutil.copytree(SHARES[0], Path("failed"))
    main(["run", "config.yaml", "--shard", "1/3", "run.retry_failed=true"])
    return before


def test_results_replace_failures_in_any_order(folder: Path, failed: Path) -> None:
    """A share that was done again belongs to what it was, whichever is merged first."""
    again = contents(SHARES[0])
    for out, shares in {"one": (failed, SHARES[0]), "two": (SHARES[0], failed)}.items():
        for _ in range(2):
            for share in shares:
                merge(Path(out), [share])
            merged = contents(folder / out)
            for name in again.keys() - {"samples", "sample_images"}:
                assert merged[name] == again[name], name
    assert contents(folder / "one") == contents(folder / "two")


def test_the_first_of_two_failures_stays(folder: Path, failed: Path) -> None:
    merge(Path("joined"), [failed])
    before = contents(folder / "joined")
    for table in FAIL:
        changed(failed, f"UPDATE {table} SET failure = 'no time'")
    merge(Path("joined"), [failed])
    assert contents(folder / "joined") == before


def test_results_that_differ_are_refused_beside_failures(folder: Path, failed: Path) -> None:
    """Failures are left out of the comparison, and nothing else is."""
    merge(Path("joined"), [failed, SHARES[0]])
    changed(SHARES[0], "UPDATE fidelity SET value = 1")
    with pytest.raises(StoreError, match="has other fidelity"):
        merge(Path("joined"), [failed, SHARES[0]])


def test_merging_again_takes_time_in_proportion(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of SQLite are counted, because seconds depend on the machine."""
    timings = 8000
    changed(
        SHARES[0],
        "INSERT INTO timings WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1"
        f" FROM numbers LIMIT {timings}) SELECT 'answer', 'x', 1, n / 2 FROM numbers",
    )
    merge(Path("joined"), SHARES)
    before = contents(folder / "joined")
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1000
        return 0

    def counting(*args: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*args, **options)
        database.set_progress_handler(step, 1000)
        return database

    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", counting)
        merge(Path("joined"), SHARES[:1])
    assert 0 < steps < 500 * timings
    assert contents(folder / "joined") == before


def test_what_may_pass_is_left_to_be_asked_again(folder: Path) -> None:
    changed(SHARES[0], "UPDATE predictions SET transient = 1, text = NULL")
    merge(Path("joined"), SHARES)
    with closing(sqlite3.connect("joined/run.sqlite")) as database:
        assert database.execute("SELECT sum(transient) FROM predictions").fetchone() == (0,)
    assert main(["run", "config.yaml", "run.out=joined"]) == 1
    assert contents(folder / "joined")["scores"] == contents(folder / "whole")["scores"]


def lose(folder: Path) -> None:
    for path in (folder / "bitstreams").glob("*/*"):
        path.unlink()


def cut(folder: Path) -> None:
    for path in (folder / "bitstreams").glob("*/*"):
        path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [lose, cut])
def test_lost_bitstreams_stop(folder: Path, harm: Callable[[Path], None]) -> None:
    harm(SHARES[2])
    assert main(["merge", *map(str, SHARES), "--out", "joined"]) == 2


@pytest.mark.parametrize("given", [["nowhere"], ["whole-1-of-3", "joined"], ["."]])
def test_what_is_no_run_folder_is_refused(
    folder: Path, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", *given, "--out", "joined"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_a_share_that_is_none_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected a share such as 3/16"):
        load_config(Path("config.yaml"), [f"run.shard={text}"])
