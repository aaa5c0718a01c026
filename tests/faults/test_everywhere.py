"""What goes wrong in codecs, programs, models and servers is recorded alike by each executor."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lossylens.store.database import Store
from lossylens_toolkit.external_codec.program_testing import install_programs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SERVER = Path(__file__).parents[2] / "plugins" / "vlms" / "openai" / "tests" / "server.py"

#: A script around an encoder program, which first tells its version when it is asked; what
#: goes wrong then follows from the height of the image.
SCRIPT = """#!/bin/sh
case "$*" in
*"-hgt 17 "*) export LOSSYLENS_FAKE=hang;;
*"-hgt 18 "*) echo 'Error: no licence' >&2; exit 1;;
*"-hgt 19 "*) export LOSSYLENS_FAKE=cut;;
*"-hgt 20 "*) export LOSSYLENS_FAKE=silent;;
esac
exec "{program}" "$@"
"""


@pytest.fixture(params=["local", "ray"])
def where(request: pytest.FixtureRequest) -> str:
    """What chooses the executor."""
    return "run.executor=local" if request.param == "local" else request.getfixturevalue("on_ray")


@pytest.fixture
def faulty(harmed: Any, where: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that does a run to its end; returns exit code, messages and what was recorded."""
    run = harmed(1)

    def do(**config: Any) -> tuple[int, str, dict[str, set[Any]]]:
        settings = {"out": "run", "workers": 1, "uncompressed": False, **config.pop("run", {})}
        blocky, seer = {"blocky": {"levels": ["b64"]}}, {"seer": None}
        content = {"codecs": blocky, "vlms": seer, **config, "run": settings}
        (run.folder / "config.yaml").write_text(yaml.safe_dump(content))
        code, errors = run.end(where)
        assert "Traceback" not in errors
        assert run.out.exists(), errors
        return code, errors, recorded(run.out)

    return do


def recorded(folder: Path) -> dict[str, set[Any]]:
    """Return answers, and failures with their stage and whether they may pass, by labels."""
    query = (
        "SELECT vlm_label, codec_label, sample, stage, failure, transient FROM predictions"
        " JOIN cells ON cells.key = predictions.cell"
    )
    found: dict[str, set[Any]] = {}
    with Store(folder, writable=False) as store:
        for row in store.rows(query):
            told = (row["stage"], row["failure"], bool(row["transient"]))
            for name in {row["vlm_label"], row["codec_label"], row["sample"]}:
                found.setdefault(name, set()).add(told if row["failure"] else "answered")
    return found


def failed(found: set[Any], stage: str, words: str, *, may_pass: bool = False) -> None:
    """Make sure that something failed in one way alone."""
    assert {(place, passing) for place, _, passing in found} == {(stage, may_pass)}, found
    assert all(words in reason for _, reason, _ in found), found


def patches(images: int, troubles: str = "") -> dict[str, Any]:
    """Return a task; the images are of heights 16, 17 ... and have a question each."""
    return {"patches": {"images": images, "questions": 1, "troubles": troubles}}


def test_encoder_programs(faulty: Any, tmp_path: Path) -> None:
    programs = install_programs(tmp_path / "release", ["TAppEncoder", "TAppDecoder"])
    # Configuration files are looked for beside and above it.
    script = tmp_path / "release" / "script" / "TAppEncoder"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(program=programs / "TAppEncoder"))
    script.chmod(0o755)
    options = {"encoder": str(script), "decoder": str(programs), "encoder_limit": 0.1}
    code, errors, found = faulty(codecs={"hm": {"levels": ["qp42"], **options}}, tasks=patches(5))
    assert code == 1, errors
    assert found["0.0"] == {"answered"}
    failed(found["1.0"], "encode", "it was ended after 6 s")
    failed(found["2.0"], "encode", "exit code 1; it said: Error: no licence")
    # As HM does when the disk is full for a while.
    failed(found["3.0"], "encode", "but its file is cut", may_pass=True)
    failed(found["4.0"], "encode", "it wrote nothing to str.bin")


def test_encoders(faulty: Any) -> None:
    troubles = "crashing,stuck,hoarding"
    code, errors, found = faulty(
        tasks=patches(5, troubles), run={"timeout": 30, "memory": 1, "workers": 2}
    )
    assert code == 1, errors
    failed(found["0.0"], "encode", "the worker process was killed by SIGSEGV")
    failed(found["1.0"], "encode", "it took longer than 30 s (run.timeout)")
    failed(found["2.0"], "encode", "it took more than 1 GB of memory (run.memory)")
    assert found["3.0"] == found["4.0"] == {"answered"}


def test_models_that_run_out_of_memory(faulty: Any) -> None:
    code, errors, found = faulty(tasks=patches(5, ",unbearable,,overwhelming"))
    assert code == 1, errors
    failed(found.pop("3.0"), "answer", "MemoryError: too much alone", may_pass=True)
    assert all(found[f"{number}.0"] == {"answered"} for number in (0, 1, 2, 4))
    assert "1 cells are not scored" in errors


def test_models_that_crash(faulty: Any) -> None:
    tasks = patches(5, ",forbidden")
    code, errors, _ = faulty(tasks=tasks)
    assert code == 2, errors
    crash = "the worker process was killed by SIGABRT"
    last = errors.splitlines()[-1]
    assert last.startswith(f"lossylens: vlm 'seer' crashed: {crash} while it was asked about")
    code, errors, found = faulty(tasks=tasks)
    assert code == 1, errors
    failed(found["1.0"], "answer", crash)
    assert all(found[f"{number}.0"] == {"answered"} for number in (0, 2, 3, 4))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that does what the name of the model says."""
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen([sys.executable, str(SERVER)], stdout=stream)
    while not (lines := log.read_text().splitlines()):
        assert process.poll() is None
    yield f"http://127.0.0.1:{lines[0]}/v1"
    process.terminate()
    process.wait()


def test_servers(faulty: Any, server: str) -> None:
    orders = {
        "limited": "429 after=0 | ok yes",
        "failing": "500",
        "half": "cut",
        "hanging": "hang 20",
    }
    patience = {"tries": 2, "pause": 0.01, "timeout": 2.0, "concurrency": 1}
    vlms = {
        name: {"plugin": "openai", "url": server, "model": f"{name} [{order}]", **patience}
        for name, order in orders.items()
    }
    code, errors, found = faulty(vlms=vlms, tasks=patches(2))
    assert code == 1, errors
    assert found["limited"] == {"answered"}
    failed(found["failing"], "answer", "500 Internal Server Error", may_pass=True)
    failed(found["half"], "answer", "the connection broke", may_pass=True)
    failed(found["hanging"], "answer", "no reply within 2 s (2 attempts)", may_pass=True)
    assert "3 cells are not scored" in errors
