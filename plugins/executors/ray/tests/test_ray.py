"""What the executor does without a cluster; tests/faults has a cluster of several nodes."""

from __future__ import annotations

import hashlib
import pickle
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from lossylens.errors import ConfigError, RequirementError
from lossylens.executor import Need, Resources
from lossylens.registry.plugins import load_registry
from lossylens.run.jobs import Carried, CarriedContent
from lossylens_executor_ray.cluster import Cluster, room_on
from lossylens_executor_ray.executor import RayExecutor
from lossylens_executor_ray.parcels import BY_VALUE, NodeImages, Packing, unpack
from lossylens_executor_ray.plugin import PlacementOptions, RayOptions


def carried(data: bytes, reads: list[str] | None = None) -> Carried:
    sha256 = hashlib.sha256(data).hexdigest()

    def read() -> bytes:
        if reads is not None:
            reads.append(sha256)
        return data

    return Carried(sha256, read)


def test_it_is_found_with_its_options() -> None:
    registry = load_registry(only=["lossylens-executor-ray"])
    found = registry.find("executor", "ray")
    given = {"plugins": {"codecs.vtm": {"cpus": 2}, "vlms.qwen2.5-vl-32b": {"gpus": 2}}}
    options = registry.options(found, given)
    assert options.plugins["codecs.vtm"] == PlacementOptions(cpus=2)
    assert options.plugins["vlms.qwen2.5-vl-32b"].gpus == 2
    with pytest.raises(ConfigError):
        registry.options(found, {"plugins": {"codecs.vtm": {"cores": 2}}})


def test_models_say_what_gpus_they_need() -> None:
    registry = load_registry()

    def needed(model: Any, **options: str) -> float:
        return float(model.spec.gpus(registry.options(model, options)))

    models = [each for each in registry.all("vlm") if each.spec.parameters > 100]
    assert len(models) > 10
    for model in models:
        found = {device: needed(model, device=device) for device in ("auto", "cpu", "cuda:1")}
        assert found == {"auto": 1, "cpu": 0, "cuda:1": 0}, model.spec.name
        spread = needed(model, device="all")
        assert spread == (2 if model.spec.name == "qwen2.5-vl-32b" else 1), model.spec.name
    assert needed(registry.find("vlm", "nano")) == 0


class Packed:
    """What became of packing."""

    def __init__(self, jobs: object, there: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.put: dict[str, bytes] = {}
        self.parcel = Packing(self.put.__setitem__, there.__contains__).pack(jobs)


def test_large_content_travels_beside_the_jobs_and_once() -> None:
    small, large, reads = b"s" * BY_VALUE, b"l" * (BY_VALUE + 1), []
    jobs = [carried(small), carried(large, reads), carried(large, reads)]
    packed = Packed(jobs)
    assert list(packed.put.values()) == [large]
    assert packed.parcel.large == tuple(packed.put)
    assert len(packed.parcel.jobs) < BY_VALUE + 1000
    assert len(reads) == 1
    assert unpack(packed.parcel, packed.put) == [
        CarriedContent(small),
        CarriedContent(large),
        CarriedContent(large),
    ]


def test_content_that_is_there_is_not_read() -> None:
    reads: list[str] = []
    job = carried(b"l" * (BY_VALUE + 1), reads)
    packed = Packed([job], {job.sha256})
    assert packed.put == {} == dict.fromkeys(reads)
    assert packed.parcel.large == (job.sha256,)


def test_content_that_cannot_be_read_fails_its_job_alone() -> None:
    def gone() -> bytes:
        raise FileNotFoundError(2, "No such file", "a.jpg")

    jobs = unpack(Packed([Carried("0" * 64, gone), carried(b"x")]).parcel, {})
    assert "No such file" in jobs[0].problem
    assert jobs[1]() == b"x"


def test_without_packing_content_travels_with_its_job() -> None:
    assert pickle.loads(pickle.dumps(carried(b"x")))() == b"x"


def test_a_node_keeps_images_and_notices_damage(tmp_path: Path) -> None:
    images = NodeImages(str(tmp_path / "images"))
    sha256 = hashlib.sha256(b"image").hexdigest()
    assert images.get(sha256) is None
    assert images.put(sha256, b"image")
    assert images.get(sha256) == b"image"
    [path] = [each for each in (tmp_path / "images").rglob("*") if each.is_file()]
    path.write_bytes(b"imag")
    assert images.get(sha256) is None


def test_a_node_without_room_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not NodeImages(str(tmp_path / "file")).put("0" * 64, b"image")


@pytest.mark.parametrize(
    ("wanted", "room"),
    [
        ({"num_cpus": 1, "num_gpus": 0, "memory": None}, 8),
        ({"num_cpus": 3, "num_gpus": 0, "memory": None}, 2),
        ({"num_cpus": 1, "num_gpus": 0.1, "memory": None}, 8),
        ({"num_cpus": 1, "num_gpus": 2, "memory": None}, 0),
        ({"num_cpus": 1, "num_gpus": 0, "memory": 400}, 2),
        ({"num_cpus": 0, "num_gpus": 0, "memory": None}, 1),
    ],
)
def test_room(wanted: dict[str, Any], room: int) -> None:
    assert room_on({"CPU": 8, "GPU": 1, "memory": 1000}, wanted) == room


@pytest.fixture
def unused() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_no_cluster_at_the_address(unused: int) -> None:
    with pytest.raises(RequirementError, match=r"^run.executor.address: no Ray cluster at") as told:
        Cluster(f"127.0.0.1:{unused}")
    assert "\n" not in str(told.value)


def test_another_server_at_the_address() -> None:
    """Such as Ray's own dashboard."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(RequirementError, match=r"no Ray cluster at .*, but another server"):
            Cluster(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("address", "message"),
    [("nonsense", "expected HOST:PORT"), ("ray://head:10001", "ray:// is for Ray Client")],
)
def test_addresses_that_are_none(address: str, message: str) -> None:
    with pytest.raises(RequirementError, match=message):
        Cluster(address)


def test_a_plugin_that_is_not_in_the_run() -> None:
    options = RayOptions(address="nowhere", plugins={"codecs.vtn": PlacementOptions()})
    need = Need("codecs.vtm", Resources(), list)
    with pytest.raises(ConfigError, match=r"'codecs.vtn' is none of codecs.vtm"):
        RayExecutor(options).prepare([need], {}, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cpus": -1}, "cpus must be a number, 0 or 0.0001 or more"),
        ({"cpus": float("nan")}, "cpus must be a number"),
        ({"gpus": float("inf")}, "gpus must be a number"),
        ({"cpus": 0.00001}, "cpus must be a number"),
        ({"gpus": 1.5}, "gpus must be a share of one, or whole ones"),
        ({"memory": 0}, "memory must be gigabytes, more than 0"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_placements_that_are_none(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlacementOptions(**given)


def test_the_configuration_names_what_is_wrong_with_a_placement() -> None:
    registry = load_registry()
    found = registry.find("executor", "ray")
    for given in ({"plugins": {"vlms.nano": {"workers": 0}}}, {"patience": 0}):
        with pytest.raises(ConfigError, match=r"run\.executor"):
            registry.options(found, given, "run.executor")
