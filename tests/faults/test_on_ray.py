"""``ray`` keeps what ``local`` promises, and more: nodes may go, and must be alike.

Ray's own test cluster: nodes that are processes, started and stopped here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lossylens.errors import LossylensError
from lossylens.executor import Resources
from lossylens.failure import Failure
from lossylens.run.jobs import Carried, JobByJob

pytest.importorskip("ray", reason="needs Ray: pip install ./plugins/executors/ray")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

#: All that a worker does to a run can be told apart; none of it ends the run.
TROUBLES = "refused,crashing,undecodable,exiting,killed,unanswerable,impossible"


def test_every_trouble_is_recorded_as_on_this_machine(harmed: Any, on_ray: str) -> None:
    local, remote = (harmed(10, TROUBLES) for _ in range(2))
    code, errors = local.end()
    assert code == 1, errors
    code, errors = remote.end(on_ray)
    assert code == 1, errors
    assert remote.contents() == local.contents()


def test_ended_at_random_moments(
    harmed: Any, harness: Any, chance: Any, tools: Any, cluster: Any, on_ray: str
) -> None:
    images = 40 if tools.LONG else 6
    undisturbed = harmed(images)
    assert undisturbed.end()[0] == 0

    def end_node(process: Any, chance: Any) -> bool:
        node = chance.choice(sorted(cluster.worker_nodes, key=lambda each: each.unique_id))
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=tools.OBJECT_STORE, wait=False)
        return True

    def end_worker(process: Any, chance: Any) -> bool:
        """Kill an actor, or the process below it, on whatever node."""
        marks = ("ray::NodeWorker", "lossylens.run.executors.serving")
        below = psutil.Process().children(recursive=True)
        workers = [each for each in below if any(tools.is_called(each, mark) for mark in marks)]
        return tools.kill_one(workers, chance)

    victims = {"driver": tools.kill_driver, "node": end_node, "worker": end_worker}
    work = harness(lambda: harmed(images), (on_ray,), victims, delay=0.2)
    # A driver needs some time to find the cluster and to look at its nodes.
    for run in work.run(chance, tools.ROUNDS + 1, longest=60):
        assert run.contents() == undisturbed.contents()
    assert set(work.harms) == set(victims)


def test_a_node_of_another_version_is_refused(
    harmed: Any, cluster: Any, on_ray: str, tools: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tools.SAMPLE, other, ignore=shutil.ignore_patterns("__pycache__"))
    metadata = other / "lossylens_sample-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "2.0"))
    node = cluster.add_node(
        num_cpus=1, object_store_memory=tools.OBJECT_STORE, env_vars={"PYTHONPATH": str(other)}
    )
    try:
        run = harmed(2)
        code, errors = run.end(on_ray)
    finally:
        cluster.remove_node(node)
    assert code == 2
    assert "lossylens-sample 2.0 is installed, the run has 1.0" in errors.splitlines()[-1]
    assert errors.splitlines()[-1].startswith("lossylens: node ")
    assert not run.out.exists()


def test_what_the_cluster_lacks_is_said_before_anything_is_done(harmed: Any, on_ray: str) -> None:
    run = harmed(2)
    wanted = "plugins: {vlms.seer: {gpus: 2}}"
    code, errors = run.end(on_ray.replace("address", f"{wanted}, address"))
    assert code == 2
    line = errors.splitlines()[-1]
    assert line.startswith("lossylens: vlms.seer needs 1 CPUs, 2 GPUs on one node; the most that")
    assert not run.out.exists()


@pytest.fixture
def executor(cluster: Any, tools: Any, tmp_path: Path, monkeypatch: Any) -> Iterator[Any]:
    """The executor with one worker, on a node of its own, and without a run."""
    from lossylens_executor_ray.executor import RayExecutor
    from lossylens_executor_ray.plugin import RayOptions

    monkeypatch.setenv("PYTHONPATH", tools.ENVIRONMENT["PYTHONPATH"])
    for folder in tools.ENVIRONMENT["PYTHONPATH"].split(os.pathsep):
        monkeypatch.syspath_prepend(folder)
    options = RayOptions(address=cluster.address, images=str(tmp_path / "images"))
    node = cluster.add_node(
        num_cpus=1, object_store_memory=tools.OBJECT_STORE, resources={"here": 1}
    )
    try:
        with RayExecutor(options) as executor:
            monkeypatch.setattr(
                executor, "_wanted", lambda *_: {"num_cpus": 1, "resources": {"here": 1}}
            )
            monkeypatch.setattr(executor, "room", lambda _: 1)
            yield executor
    finally:
        cluster.remove_node(node)


def test_more_than_the_object_store_holds_and_each_once(executor: Any, tmp_path: Path) -> None:
    """Ray spills to disk; content is read once however many jobs carry it."""
    from jobs_of_faults import hashed

    reads: list[int] = []

    def read(number: int) -> bytes:
        reads.append(number)
        return bytes([number]) * (8 * 2**20)

    hashes = [hashlib.sha256(bytes([each]) * (8 * 2**20)).hexdigest() for each in range(14)]
    jobs = [Carried(sha, lambda each=each: read(each)) for each, sha in enumerate(hashes)]
    chunks = [jobs[:7], jobs[7:], jobs[:7]]
    done = list(executor.run(JobByJob(hashed, "hashing"), chunks, Resources(workers=1)))
    assert [result for _, result in done] == [job.sha256 for job, _ in done]
    assert len(done) == 21
    assert sorted(reads) == list(range(14))
    assert {path.name for path in (tmp_path / "images").rglob("*") if path.is_file()} == {*hashes}


def test_several_jobs_at_once_and_chunks_of_one(executor: Any) -> None:
    from jobs_of_faults import InThrees

    jobs = [[number] for number in range(8)]
    done = list(executor.run(InThrees(), jobs, Resources(workers=1)))
    assert [result for _, result in done] == list(range(8))


def test_an_order_that_fails_at_the_actor_is_told(executor: Any) -> None:
    """It would have been waited for for ever: nobody looked at what became of the call."""
    from jobs_of_faults import PassedOnce, hashed

    with pytest.raises(LossylensError) as told:
        list(executor.run(JobByJob(hashed, "hashing"), [[PassedOnce()]], Resources(workers=1)))
    assert str(told.value).startswith("hashing cannot work on ")
    assert str(told.value).endswith("ValueError: it can be passed once")


def test_a_worker_that_takes_nothing_in_keeps_nobody_waiting(executor: Any) -> None:
    """As on this machine (core/tests/test_executor.py); the jobs are more than a pipe holds."""
    from jobs_of_faults import measured

    chunks = [["hold"], ["a" * 2**20], ["b"]]
    limits = Resources(workers=1, seconds=10)
    done = [result for _, result in executor.run(JobByJob(measured, "m"), chunks, limits)]
    assert done == [Failure("it took longer than 10 s (run.timeout)"), 2**20, 1]


def test_an_actor_that_is_cut_off_is_ended(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have kept its place, and the next one would have waited for it for ever."""
    from jobs_of_faults import measured
    from lossylens_executor_ray import remote_worker
    from ray.exceptions import ActorUnavailableError

    get, cut = remote_worker.ray.get, []

    def cut_off(references: Any, **arguments: Any) -> Any:
        report = get(references, **arguments)
        if getattr(report, "results", ()) and not cut:
            cut.append(report)
            raise ActorUnavailableError("it cannot be reached", None)
        return report

    monkeypatch.setattr(remote_worker.ray, "get", cut_off)
    done = list(executor.run(JobByJob(measured, "m"), [["a"], ["bb"]], Resources(workers=1)))
    assert cut
    assert [result for _, result in done] == [1, 2]


REAL = """
codecs:
  jpeg: {levels: [q1, q25]}
  webp: {levels: [q0]}
  elic: {variant: nano, levels: [lambda0.008]}
vlms: {nano: }
tasks: {scenes: {images: 6, seed: 5}}
run: {out: run, workers: 2}
"""


def test_real_plugins_as_on_this_machine(
    harmed: Any, tools: Any, cluster: Any, on_ray: str
) -> None:
    if not tools.LONG:
        pytest.skip("part of the long form: make faults ROUNDS=50")
    local, remote = harmed(1), harmed(1)
    for run in (local, remote):
        (run.folder / "config.yaml").write_text(REAL)
    everything = {"LOSSYLENS_PLUGINS": "ray,jpeg,webp,elic,nano,scenes,report"}
    assert local.end(**everything)[0] == 0
    node = cluster.add_node(num_cpus=1, object_store_memory=tools.OBJECT_STORE, env_vars=everything)
    for each in [each for each in cluster.worker_nodes if each is not node]:
        cluster.remove_node(each)
    code, errors = remote.end(on_ray, **everything)
    assert code == 0, errors
    assert remote.contents() == local.contents()
