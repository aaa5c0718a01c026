"""Runs of the sample plugin that are harmed while they are at work.

``make faults ROUNDS=50 SEED=1`` does it at length; the suite does the same a few times.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "core" / "tests" / "sample"
PROGRAM = Path(sys.executable).parent / "lossylens"

#: How often something is harmed at a random moment, and what the moments follow from.
ROUNDS = int(os.environ.get("ROUNDS", "2"))
SEED = int(os.environ.get("SEED", "21"))
LONG = ROUNDS >= 10

#: The short form has the first alone.
CODECS = (
    "blocky: {levels: [b64, b16]}",
    "shifted: {plugin: blocky, offset: 3, levels: [b16]}",
    "turned: {plugin: blocky, offset: 9, levels: [b64]}",
)

CONFIG = """
codecs:
  CODECS
vlms:
  seer: {batch_images: 3}
tasks:
  patches: {images: IMAGES, questions: 2, troubles: "TROUBLES"}
run: {out: run, workers: 2}
"""

#: What is the same however often a run was harmed, in the order of keys.
LASTING = {
    "parts": "key",
    "images": "sha256",
    "encodings": "codec, image",
    "samples": "task, id",
    "sample_images": "task, sample, position",
    "cells": "key",
    "predictions": "cell, sample",
    "scores": "cell",
    "resamplings": "cell",
    "verdicts": "cell, sample",
    "notes": "part, text",
}

#: Environment of all processes of a run, on whatever node.
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(SAMPLE), str(Path(__file__).with_name("on_nodes"))]),
    "LOSSYLENS_PLUGINS": "sample,report,ray,hm,openai",
    "OMP_NUM_THREADS": "1",
    # Servers of tests are on this machine.
    "NO_PROXY": "127.0.0.1",
}


class HarmedRun:
    """A folder in which a run is started, harmed and started again."""

    def __init__(self, folder: Path, images: int, troubles: str = "") -> None:
        self.folder, self.out = folder, folder / "run"
        folder.mkdir(parents=True)
        text = CONFIG.replace("IMAGES", str(images)).replace("TROUBLES", troubles)
        text = text.replace("CODECS", "\n  ".join(CODECS if LONG else CODECS[:1]))
        (folder / "config.yaml").write_text(text)

    def start(self, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, "run", "config.yaml", *overrides],
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, *overrides: str, **environment: str) -> tuple[int, str]:
        """Run to the end; return exit code and messages."""
        process = self.start(*overrides, **environment)
        try:
            _, errors = process.communicate(timeout=_MOST_SECONDS)
        finally:
            process.kill()
        return process.returncode, errors

    def contents(self) -> dict[str, object]:
        """Return all that should not depend on what happened."""
        found: dict[str, object] = {}
        with closing(sqlite3.connect(self.out / "run.sqlite")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            for table, key in LASTING.items():
                query = f"SELECT * FROM {table} ORDER BY {key}"
                found[table] = database.execute(query).fetchall()
        for path in (self.out / "bitstreams").rglob("*"):
            if path.is_file():
                found[path.name] = path.read_bytes()
        return found

    def stored(self) -> int:
        """Return how many results are in the store."""
        try:
            with closing(sqlite3.connect(self.out / "run.sqlite", timeout=60)) as database:
                return sum(
                    database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in ("encodings", "predictions")
                )
        except sqlite3.OperationalError:
            return 0


@pytest.fixture
def harmed(tmp_path: Path) -> Iterator[Callable[..., HarmedRun]]:
    folders: list[Path] = []

    def make(images: int, troubles: str = "") -> HarmedRun:
        folders.append(tmp_path / f"folder{len(folders)}")
        return HarmedRun(folders[-1], images, troubles)

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)


#: Seconds within which a run that is left alone ends.
_MOST_SECONDS = 900


class Harness:
    """Harms a run at random moments until it was harmed often enough, and lets it end.

    Args:
        make: makes a folder for a run; another one when a run ends too early.
        overrides: of the configuration.
        victims: by name, what ends something of a run and returns whether it could.
        delay: seconds that an encoding or a batch of answers takes in addition.
    """

    def __init__(
        self,
        make: Callable[[], HarmedRun],
        overrides: tuple[str, ...],
        victims: dict[str, Callable[[subprocess.Popen[str], random.Random], bool]],
        delay: float,
    ) -> None:
        self._make, self._overrides, self._victims = make, overrides, victims
        self._delay = {"SAMPLE_DELAY": str(delay)}
        self.harms: list[str] = []

    def run(self, chance: random.Random, rounds: int, longest: float) -> list[HarmedRun]:
        """Return the folders, whose runs have all ended well."""
        used = [self._make()]
        names = sorted(self._victims)
        while len(self.harms) < rounds:
            process = used[-1].start(*self._overrides, **self._delay)
            while len(self.harms) < rounds:
                before = used[-1].stored()
                try:
                    # From the very start, or some time into it.
                    process.wait(chance.uniform(0, longest))
                    break
                except subprocess.TimeoutExpired:
                    pass
                name = names[len(self.harms) % len(names)]
                if self._victims[name](process, chance):
                    self.harms.append(name)
                    assert used[-1].stored() >= before
            if len(self.harms) < rounds and process.wait(_MOST_SECONDS) == 0:
                used.append(self._make())
            _finish(process)
        for run in used:
            for _ in range(5):
                code, errors = run.end(*self._overrides)
                if code == 0:
                    break
            assert code == 0, errors
            assert "Traceback" not in errors
        return used


def _finish(process: subprocess.Popen[str]) -> None:
    """Let a run that was harmed go on to its end, unless it has been ended."""
    _, errors = process.communicate(timeout=_MOST_SECONDS)
    assert "Traceback" not in errors, errors


def kill_driver(process: subprocess.Popen[str], chance: random.Random) -> bool:
    process.kill()
    return True


def kill_worker(process: subprocess.Popen[str], chance: random.Random) -> bool:
    """Kill a process that the driver has started, or one below it."""
    return kill_one(_below(process.pid, "lossylens.run.executors.serving"), chance)


def _below(pid: int, mark: str) -> list[psutil.Process]:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return [each for each in children if is_called(each, mark)]


def is_called(process: psutil.Process, mark: str) -> bool:
    try:
        return mark in " ".join(process.cmdline())
    except psutil.Error:
        return False


def kill_one(processes: list[psutil.Process], chance: random.Random) -> bool:
    if not processes:
        return False
    try:
        chance.choice(sorted(processes, key=lambda each: each.pid)).kill()
    except psutil.Error:
        return False
    return True


@pytest.fixture
def harness() -> type[Harness]:
    return Harness


#: The least that Ray takes.
OBJECT_STORE = 80 * 2**20

#: A node that is gone is missed within seconds; workers are not put behind all that else
#: runs on the machine, as Ray does, or a test would take minutes on a busy one.
_QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "worker_niceness": 0,
}


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Any]:
    """Ray's own test cluster: nodes that are processes, two of one CPU and a head of none."""
    cluster_utils = pytest.importorskip(
        "ray.cluster_utils", reason="needs Ray: pip install ./plugins/executors/ray"
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        head = {
            "num_cpus": 0,
            "object_store_memory": OBJECT_STORE,
            "include_dashboard": False,
            "_system_config": _QUICK,
        }
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    yield cluster
    # Ray leaves files open, which whatever test comes last would be blamed for.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster.shutdown()
        gc.collect()


@pytest.fixture
def cluster(shared_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cluster; nodes that a test adds have the environment of the others."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return shared_cluster


@pytest.fixture
def on_ray(cluster: Any) -> str:
    return f"run.executor={{plugin: ray, address: '{cluster.address}'}}"


@pytest.fixture
def tools() -> Any:
    """The functions and settings of this module, which tests cannot import."""
    return sys.modules[__name__]
