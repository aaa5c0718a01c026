"""The pool of worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lossylens.errors import LossylensError
from lossylens.executors.local import run_jobs
from lossylens.failure import Failure

JOBS = """
import os, signal, subprocess, sys, tempfile, time
from lossylens.errors import ImageError, RequirementError

def work(job):
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "exit":
        os._exit(3)
    if job == "image":
        raise ImageError("bad image")
    if job == "bug":
        raise ValueError("a bug")
    if job == "fatal":
        raise RequirementError("no encoder")
    if job == "temporary":
        with tempfile.TemporaryDirectory(dir=os.environ["PIDS"] + ".d"):
            print(os.getpid(), file=open(os.environ["PIDS"], "a"), flush=True)
            time.sleep(60)
    if job == "threads":
        return os.environ["OMP_NUM_THREADS"]
    if job == "sleep":
        child = subprocess.Popen(["sleep", "60"])
        print(os.getpid(), child.pid, file=open(os.environ["PIDS"], "a"), flush=True)
        time.sleep(60)
    return job.upper()
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "jobs_of_test.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    import jobs_of_test

    yield jobs_of_test.work
    del sys.modules["jobs_of_test"]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_and_failures(work, workers: int) -> None:
    jobs = ["a", "image", "b", "bug", "c", "d"]
    results = dict(run_jobs(work, [jobs[:2], jobs[2:]], workers))
    assert results == {
        **{"a": "A", "b": "B", "c": "C", "d": "D"},
        "image": Failure("bad image"),
        "bug": Failure("ValueError: a bug"),
    }


def test_a_dead_worker_fails_its_job_alone(work) -> None:
    jobs = ["a", "crash", "b", "exit", "c", "d", "crash"]
    results = list(run_jobs(work, [jobs[:4], jobs[4:]], 2))
    reasons = [result.reason for _, result in results if isinstance(result, Failure)]
    killed, ended = "the worker process was killed by SIGSEGV", "ended with exit code 3"
    assert sorted(reasons) == [f"the worker process {ended}", killed, killed]
    assert sorted(job for job, _ in results) == sorted(jobs)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_concerns_all_jobs_stops(work, workers: int) -> None:
    with pytest.raises(LossylensError, match="no encoder"):
        list(run_jobs(work, [["a", "fatal", "b"]], workers))


def test_jobs_are_drawn_as_needed(work) -> None:
    drawn = []

    def chunks():
        for job in "abcdefghijkl":
            drawn.append(job)
            yield [job, job]

    results = run_jobs(work, chunks(), 2)
    next(results)
    # One for each worker; another for one that has been quick.
    assert len(drawn) <= 4
    results.close()


def test_answers_come_before_a_chunk_is_done(work, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    results = run_jobs(work, [["a", "sleep"], ["b", "sleep"]], 2)
    assert {next(results), next(results)} == {("a", "A"), ("b", "B")}
    results.close()


class Unknown:
    """Cannot be unpickled anywhere else."""

    def __reduce__(self):
        return (exec, ("import a_module_that_nobody_has",))


def test_a_job_that_does_not_arrive(work) -> None:
    with pytest.raises(LossylensError, match=r"cannot be passed .*: ModuleNotFoundError"):
        list(run_jobs(work, [[Unknown()], ["a"]], 2))


DRIVER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from jobs_of_test import work
from lossylens.executors.local import run_jobs
if __name__ == "__main__":
    list(run_jobs(work, [["temporary"], ["sleep"]], 2))
"""


def test_workers_end_when_the_driver_is_killed(work, tmp_path, monkeypatch) -> None:
    pids, temporary = tmp_path / "pids", tmp_path / "pids.d"
    temporary.mkdir()
    monkeypatch.setenv("PIDS", str(pids))
    (tmp_path / "driver.py").write_text(DRIVER)
    with subprocess.Popen([sys.executable, tmp_path / "driver.py", tmp_path]) as driver:
        while not pids.exists() or pids.read_text().count("\n") < 2:
            time.sleep(0.05)
        assert len(list(temporary.iterdir())) == 1
        driver.kill()
    for pid in map(int, pids.read_text().split()):
        assert ended(pid)
    assert list(temporary.iterdir()) == []


def test_workers_compute_in_one_thread(work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert dict(run_jobs(work, [["threads"], ["a"]], 2))["threads"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ


def test_stopping_ends_workers_and_what_they_started(
    work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    results = run_jobs(work, [["sleep"], ["a"], ["b"]], 2)
    assert next(results)[0] == "a"
    while not pids.exists() or not pids.read_text().endswith("\n"):
        time.sleep(0.05)
    results.close()
    for pid in map(int, pids.read_text().split()):
        assert ended(pid)


def ended(pid: int) -> bool:
    """Whether a process ends within seconds; it may stay as an unburied child of init."""
    for _ in range(100):
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False
