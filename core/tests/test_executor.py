"""The pool of worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from lossylens.errors import LossylensError
from lossylens.executor import Resources
from lossylens.failure import Failure
from lossylens.run.executors.local import LocalExecutor, _free
from lossylens.run.executors.process import WorkerProcess
from lossylens.run.jobs import JobByJob, closing_workers

JOBS = """
import ctypes, hashlib, os, signal, subprocess, sys, tempfile, time
from lossylens.errors import ImageError, RequirementError

def work(job):
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.startswith("kill"):
        print("killed", file=open(os.environ["PIDS"], "a"), flush=True)
        if job == "kill always" or len(open(os.environ["PIDS"]).readlines()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
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
        return os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]
    if job == "quit":
        sys.exit(0)
    if job == "service":
        raise ConnectionError("nobody there")
    if job == "greedy":
        hoard = []
        while True:
            hoard.append(bytearray(b"x" * 50_000_000))
            time.sleep(0.01)
    if job == "print":
        print("a plugin's own words")
    if job == "hold":
        # Without letting other threads run, so that nothing is taken in either.
        ctypes.PyDLL(None).sleep(60)
    if job == "swallow":
        class Swallowing:
            def __del__(self):
                print(os.getpid(), file=open(os.environ["PIDS"], "a"), flush=True)
                time.sleep(60)
        Swallowing()
        time.sleep(60)
    if job == "native":
        # Which no signal interrupts.
        print(os.getpid(), file=open(os.environ["PIDS"], "a"), flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    if job == "sleep":
        child = subprocess.Popen(["sleep", "60"])
        print(os.getpid(), child.pid, file=open(os.environ["PIDS"], "a"), flush=True)
        time.sleep(60)
    return job.upper()
"""


def run_jobs(function, chunks, workers, **limits):
    """Have jobs done as a run does; yield each with its result."""
    with LocalExecutor() as executor:
        resources = Resources(workers=workers, threads=1, **limits)
        yield from executor.run(JobByJob(function, "the test"), chunks, resources)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "jobs_of_test.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    import jobs_of_test

    yield jobs_of_test.work
    del sys.modules["jobs_of_test"]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_and_failures(work, workers: int) -> None:
    jobs = ["a", "image", "b", "bug", "c", "d", "quit", "service"]
    results = dict(run_jobs(work, [jobs[:2], jobs[2:]], workers))
    assert results == {
        **{"a": "A", "b": "B", "c": "C", "d": "D"},
        "image": Failure("bad image"),
        "bug": Failure("ValueError: a bug"),
        "quit": Failure("SystemExit: 0"),
        "service": Failure("ConnectionError: nobody there", transient=True),
    }
    assert "a bug" in results["bug"].trace
    assert results["bug"].fault.startswith("ValueError jobs_of_test.py, line ")
    assert not results["image"].fault


def test_a_dead_worker_fails_its_job_alone(work) -> None:
    jobs = ["a", "crash", "b", "exit", "c", "d", "crash"]
    results = list(run_jobs(work, [jobs[:4], jobs[4:]], 2))
    reasons = [result.reason for _, result in results if isinstance(result, Failure)]
    killed, ended = "the worker process was killed by SIGSEGV", "ended with exit code 3"
    assert sorted(reasons) == [f"the worker process {ended}", killed, killed]
    assert sorted(job for job, _ in results) == sorted(jobs)


@pytest.mark.parametrize(("job", "result"), [("kill once", "KILL ONCE"), ("kill always", None)])
def test_a_worker_killed_from_outside_gets_its_job_once_more(
    work, monkeypatch, tmp_path, job: str, result: str | None
) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    results = dict(run_jobs(work, [["a", job, "b"]], 1))
    assert (results.pop("a"), results.pop("b")) == ("A", "B")
    words = "the worker process was killed by SIGKILL, perhaps for want of memory"
    assert results[job] == (result or Failure(words, transient=True))
    assert len((tmp_path / "pids").read_text().splitlines()) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_hangs_or_hoards_fails_alone(work, workers: int, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    jobs = ["a", "sleep", "b", "greedy", "c"]
    results = dict(run_jobs(work, [jobs], workers, seconds=8, memory=500_000_000))
    assert results == {
        **{"a": "A", "b": "B", "c": "C"},
        "sleep": Failure("it took longer than 8 s (run.timeout)"),
        "greedy": Failure("it took more than 0.5 GB of memory (run.memory)"),
    }
    assert all(map(ended, map(int, (tmp_path / "pids").read_text().split())))


def test_what_a_plugin_prints_is_no_output(work, capfd) -> None:
    list(run_jobs(work, [["print"]], 1))
    printed = capfd.readouterr()
    assert "own words" not in printed.out
    assert "own words" in printed.err


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
from lossylens.executor import Resources
from lossylens.run.executors.local import LocalExecutor
from lossylens.run.jobs import JobByJob
if __name__ == "__main__":
    resources = Resources(workers=2)
    chunks = [["temporary"], ["sleep"]]
    list(LocalExecutor().run(JobByJob(work, "the test"), chunks, resources))
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


def test_native_code_ends_when_the_driver_is_killed(work, tmp_path, monkeypatch) -> None:
    """It does not heed the signal, and nobody is left to see to its time limit."""
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    script = DRIVER.replace('[["temporary"], ["sleep"]]', '[["native"]]')
    (tmp_path / "driver.py").write_text(script)
    with subprocess.Popen([sys.executable, tmp_path / "driver.py", tmp_path]) as driver:
        while not pids.exists() or not pids.read_text().strip():
            time.sleep(0.05)
        driver.kill()
    assert ended(int(pids.read_text()))


def test_what_was_done_before_a_limit_was_passed_counts(work) -> None:
    """Although nobody had time to take it until then."""
    resources = Resources(workers=1, threads=1, memory=400_000_000)
    worker = WorkerProcess(JobByJob(work, "the test"), resources)
    worker.give(["a", "greedy", "b"])
    limit = time.monotonic() + 60
    while worker._child.memory < 500_000_000 and time.monotonic() < limit:
        time.sleep(0.01)
    done = worker.check()
    failure = Failure("it took more than 0.4 GB of memory (run.memory)")
    assert done == [("a", "A"), ("greedy", failure)]
    while worker.busy:
        done += worker.take()
    assert done[-1] == ("b", "B")
    worker.stop()


def test_workers_end_though_an_error_is_kept(work) -> None:
    kept = []
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    with LocalExecutor() as executor:
        resources = Resources(workers=2, threads=1)
        try:
            results = executor.run(JobByJob(work, "the test"), [["a"], ["b"], ["c"]], resources)
            with closing_workers(results):
                next(results)
                raise ValueError
        except ValueError as error:
            kept.append(error)
        there = {each.pid for each in psutil.Process().children(recursive=True)}
        assert there <= before


@pytest.mark.parametrize(
    ("count", "shares"),
    [(1, ["0", "1", "2", "3"]), (2, ["0,1", "2,3"]), (0.5, ["0", "1", "2", "3", "0", "1"])],
)
def test_each_worker_has_its_gpus(count: float, shares: list[str]) -> None:
    alive: list[SimpleNamespace] = []
    for _ in shares:
        alive.append(SimpleNamespace(devices=_free(["0", "1", "2", "3"], alive, count)))
    assert [",".join(each.devices) for each in alive] == shares


def test_workers_compute_in_one_thread(work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert dict(run_jobs(work, [["threads"], ["a"]], 2))["threads"] == ("1", "PASSIVE")
    assert "OMP_NUM_THREADS" not in os.environ
    # The user's own setting holds.
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert dict(run_jobs(work, [["threads"]], 1))["threads"] == ("3", "ACTIVE")


@pytest.mark.parametrize(
    ("memory", "gpus", "room"),
    [
        # As many cards as there are.
        ([81559] * 4, 1, 4),
        ([81559] * 4, 2, 2),
        # Smaller ones: as many together as are asked for.
        ([24576] * 8, 1, 2),
        ([32768] * 8, 1, 2),  # three each, and not three, three and two
        ([24576, 81559, 24576], 2, 1),
        ([], 2, 1),
    ],
)
def test_room_on_gpus(tmp_path, monkeypatch, memory: list[int], gpus: float, room: int) -> None:
    """Of a stand-in for NVIDIA's program."""
    cards = "\n".join(map(str, memory))
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{cards}'\n" if memory else "#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    wanted = Resources(workers=None, gpus=gpus, gpu_memory=80_000_000_000)
    assert LocalExecutor().room(wanted) == room
    # What says nothing of memory gets a card each.
    assert LocalExecutor().room(Resources(workers=None, gpus=1)) == max(1, len(memory))


COUNTING = """
import os
from dataclasses import dataclass

@dataclass(frozen=True)
class Counting:
    title: str = "counting"
    def start(self):
        return self.work
    def work(self, jobs, begin):
        waiting = []
        for job in jobs:
            waiting.append(job)
            if len(waiting) == 3:
                begin(3)
                if "crash" in waiting:
                    os.abort()
                yield from ((os.getpid(), each) for each in waiting)
                waiting.clear()
        begin(len(waiting))
        yield from ((os.getpid(), each) for each in waiting)
"""


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A recipe that does three jobs at once."""
    (tmp_path / "counting_of_test.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    from counting_of_test import Counting

    yield Counting()
    del sys.modules["counting_of_test"]


def test_a_worker_that_takes_several_jobs_at_once(counting) -> None:
    jobs = ["a", "b", "c", "d", "crash", "e", "f", "g"]
    resources = Resources(kept=True)
    with LocalExecutor() as executor:
        results = list(executor.run(counting, [jobs], resources))
        again = list(executor.run(counting, [["h"]], resources))
    assert [job for job, _ in results] == jobs
    failed = [result for _, result in results if isinstance(result, Failure)]
    # The jobs that it had at hand, and no others.
    assert [result.died for result in failed] == [3, 3, 3]
    assert [job for job, result in results if isinstance(result, Failure)] == ["d", "crash", "e"]
    # What is kept does the next jobs.
    assert again[0][1][0] == results[-1][1][0] != results[0][1][0]


def test_a_worker_that_takes_nothing_in_keeps_nobody_waiting(work) -> None:
    """More is sent to it than a pipe holds."""
    long = "a" * 2**20
    start = time.monotonic()
    results = dict(run_jobs(work, [["hold"], [long], ["b"]], 1, seconds=8))
    assert time.monotonic() - start < 50
    assert results.pop("hold") == Failure("it took longer than 8 s (run.timeout)")
    assert results == {long: long.upper(), "b": "B"}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", [1, 4])
def test_chunks_that_several_jobs_at_once_do_not_divide(counting, workers: int, size: int) -> None:
    """A worker does what it has; it would have waited for a third job for ever."""
    jobs = [str(number) for number in range(20)]
    chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    with LocalExecutor() as executor:
        results = list(executor.run(counting, chunks, Resources(workers=workers)))
    assert sorted(job for job, _ in results) == sorted(jobs)


def test_stopping_ends_workers_and_what_they_started(
    work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    results = run_jobs(work, [["sleep"], ["a"], ["b"]], 2)
    assert next(results)[0] == "a"
    wait_for_a_line(pids)
    results.close()
    for pid in map(int, pids.read_text().split()):
        assert ended(pid)


def test_stopping_ends_a_worker_that_swallows_it(work, tmp_path, monkeypatch, capfd) -> None:
    """As the interpreter does with what is raised in a finaliser."""
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    results = run_jobs(work, [["swallow"], ["a"], ["b"]], 2)
    assert next(results)[0] == "a"
    wait_for_a_line(pids)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 4, "it was killed, for it did not end by itself"
    assert ended(int(pids.read_text()))
    assert capfd.readouterr().err == ""


def wait_for_a_line(path: Path) -> None:
    while not path.exists() or not path.read_text().endswith("\n"):
        time.sleep(0.05)


def ended(pid: int) -> bool:
    """Whether a process ends within seconds; it may stay as an unburied child of init."""
    for _ in range(300):
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False
