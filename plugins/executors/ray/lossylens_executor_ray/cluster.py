"""A Ray cluster: whether it is there, what it has, and whether its nodes are alike."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from lossylens.errors import LossylensError, RequirementError, TransientError, describe
from lossylens.executor import Need
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Seconds that the state of the nodes is taken for the present one.
_FRESH = 2.0

#: Bytes of images that stay in the object store, so that several nodes get them in turn.
_STAYING = 256 * 2**20

#: Workers that may end in a row before they begin, as those on nodes that go do.
_STARTS = 20

#: Ray's names of resources.
_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


class Cluster:
    """A cluster that this process is connected to.

    Args:
        address: as in the options.

    Attributes:
        failed_starts: workers in a row that were gone before they were there.

    Raises:
        RequirementError: there is none, or it is of another version of Python or Ray.
    """

    def __init__(self, address: str) -> None:
        _connect(address)
        self._own = ray.get_runtime_context().get_node_id()
        self._nodes: list[dict[str, Any]] = []
        self._seen = 0.0
        self._kept: dict[str, set[str]] = {}
        self._staying: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._killing: list[Any] = []
        self.failed_starts = 0

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are there now, as Ray describes them."""
        now = time.monotonic()
        if now - self._seen > _FRESH:
            self._nodes = [node for node in ray.nodes() if node["Alive"]]
            self._seen = now
        return self._nodes

    def is_alive(self, node: str) -> bool:
        """Whether a node is there at this moment."""
        self._seen = 0.0
        return any(each["NodeID"] == node for each in self.nodes)

    def name(self, node: str | None) -> str:
        """Return what messages call a node."""
        names = (each["NodeName"] for each in self.nodes if each["NodeID"] == node)
        return f"node {next(names, '?')}" if node else "a node"

    def room(self, wanted: Mapping[str, Any]) -> int:
        """Return how many workers the nodes have room for, others' work aside."""
        return sum(room_on(node["Resources"], wanted) for node in self.nodes)

    def check_own_node(self) -> None:
        """Make sure that the node that this process is connected to is there.

        Without it Ray starts nothing more for this process, and does not say so.

        Raises:
            TransientError: it is gone.
        """
        if not any(node["NodeID"] == self._own for node in self.nodes):
            raise TransientError(
                "the Ray node that this run is connected to has died; what was finished is kept:"
                " run the same command again on a machine of the cluster"
            )

    # Content that travels

    def put(self, sha256: str, data: bytes) -> Any:
        """Return a reference to content, from which every node gets it once."""
        reference = ray.put(data)
        self._staying[sha256] = (reference, len(data))
        self._bytes += len(data)
        while len(self._staying) > 1 and self._bytes > _STAYING:
            _, (_, size) = self._staying.popitem(last=False)
            self._bytes -= size
        return reference

    def reference(self, sha256: str) -> Any:
        """Return the reference to content that was put lately, else None."""
        found = self._staying.get(sha256)
        return found[0] if found else None

    def has(self, node: str | None, sha256: str) -> bool:
        """Whether a node has said that it keeps content."""
        return node is not None and sha256 in self._kept.get(node, ())

    def keep(self, node: str, hashes: Iterable[str]) -> None:
        """Take note of content that a node keeps."""
        self._kept.setdefault(node, set()).update(hashes)

    def forget(self, node: str, hashes: Iterable[str]) -> None:
        """Take note of content that a node has lost."""
        self._kept.get(node, set()).difference_update(hashes)

    # Jobs that may kill their workers

    def has_killed(self, job: object) -> bool:
        """Whether a worker was killed at this job before."""
        return any(job is each for each in self._killing)

    def note_killing(self, jobs: Iterable[object]) -> None:
        """Take note of jobs at which a worker was killed."""
        self._killing += jobs

    def note_failed_start(self, reason: str) -> None:
        """Take note of a worker that was gone before it was there.

        Raises:
            LossylensError: it is one of many, and none has started since.
        """
        self.failed_starts += 1
        if self.failed_starts >= _STARTS:
            raise LossylensError(f"{_STARTS} workers in a row ended before they began; {reason}")

    # Before a run

    def check(
        self,
        needs: Sequence[tuple[Need, Mapping[str, Any]]],
        distributions: Mapping[str, str],
        cache: Path | None,
        patience: float,
    ) -> None:
        """Make sure that every node can do what it may be given, as the driver would.

        Raises:
            RequirementError: one line on what is missing or differs, with node and plugin.
        """
        for need, wanted in needs:
            if not self.room(wanted):
                raise RequirementError(_no_room(need, wanted, self.nodes))
        self._check_versions(distributions, patience)
        for need, wanted in needs:
            self._check_alike(need, wanted, patience)
        if cache is not None:
            self._check_cache(cache, patience)

    def _check_versions(self, distributions: Mapping[str, str], patience: float) -> None:
        names = tuple(distributions)

        # Of no module, so that it travels to nodes that lack this distribution.
        def versions() -> dict[str, str]:
            from importlib import metadata

            return {
                each.metadata["Name"]: each.version
                for each in metadata.distributions()
                if each.metadata["Name"] in names
            }

        for node, found in self._on_nodes(versions, {}, patience):
            for name, version in distributions.items():
                if found.get(name) != version:
                    has = found.get(name, "none")
                    raise RequirementError(
                        f"node {node}: {name} {has} is installed, the run has {version};"
                        " install the same on all nodes"
                    )

    def _check_alike(self, need: Need, wanted: Mapping[str, Any], patience: float) -> None:
        here = need.look()
        for node, found in self._on_nodes(need.look, wanted, patience):
            if found != here:
                parts = zip(here, found, strict=True)
                names = {
                    name: (one.get(name), other.get(name))
                    for one, other in parts
                    for name in {**one, **other}
                    if one.get(name) != other.get(name)
                }
                name, (mine, its) = next(iter(names.items()))
                raise RequirementError(
                    f"node {node}: {need.where} is another there: {name} is {its}, here {mine}"
                )

    def _check_cache(self, cache: Path, patience: float) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        mark = cache / f".seen-{secrets.token_hex(8)}"
        mark.touch()
        try:
            for node, found in self._on_nodes(lambda: os.path.exists(mark), {}, patience):  # noqa: PTH110  # may be of another system
                if not found:
                    raise RequirementError(
                        f"node {node}: run.cache {cache} is not this machine's folder there;"
                        " name one on a shared file system, or none"
                    )
        finally:
            mark.unlink()

    def _on_nodes(
        self, look: Any, wanted: Mapping[str, Any], patience: float
    ) -> Iterable[tuple[str, Any]]:
        """Yield the name of each node that has room for *wanted* with what *look* returns there."""
        task = ray.remote(_once(look))
        asked = []
        for node in self.nodes:
            if room_on(node["Resources"], wanted):
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                # What looks for a GPU sees none that is not set aside for it.
                gpus = wanted.get("num_gpus") or 0
                options = task.options(
                    num_cpus=0, num_gpus=gpus, max_retries=0, scheduling_strategy=there
                )
                asked.append((node["NodeName"], options.remote()))
        end = time.monotonic() + patience
        for name, reference in asked:
            try:
                yield name, ray.get(reference, timeout=max(0.0, end - time.monotonic()))
            except GetTimeoutError:
                raise RequirementError(
                    f"node {name}: nothing heard of it for {patience:g} s (run.executor.patience)"
                ) from None
            except RayError as error:
                cause = getattr(error, "cause", None)
                told = describe(cause) if isinstance(cause, Exception) else _line(error)
                if not isinstance(cause, LossylensError):
                    told = f"the check failed: {told}"
                raise RequirementError(f"node {name}: {told}") from error


def _once(look: Any) -> Any:
    """Return a function of no module that calls *look*."""

    def looked() -> Any:
        return look()

    return looked


def room_on(resources: Mapping[str, float], wanted: Mapping[str, Any]) -> int:
    """Return how many workers a node with *resources* has room for."""
    rooms = [
        int(resources.get(_NAMES[name], 0) / amount + 1e-9)
        for name, amount in wanted.items()
        if amount
    ]
    return min(rooms, default=1)


def _no_room(need: Need, wanted: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> str:
    def amounts(of: Mapping[str, float], names: Iterable[str]) -> str:
        units = {"CPU": "CPUs", "GPU": "GPUs", "memory": "bytes of memory"}
        return ", ".join(f"{of.get(name, 0):g} {units[name]}" for name in names)

    asked = {_NAMES[name]: amount for name, amount in wanted.items() if amount}
    largest = {name: max((n["Resources"].get(name, 0) for n in nodes), default=0) for name in asked}
    return (
        f"{need.where} needs {amounts(asked, asked)} on one node; the most that a node of the"
        f" cluster has is {amounts(largest, asked)}. run.executor.plugins sets what is asked for"
    )


def _connect(address: str) -> None:
    if address.startswith("ray://"):
        raise RequirementError(
            "run.executor.address: ray:// is for Ray Client; start the run on a machine of the"
            " cluster and give HOST:PORT, or auto"
        )
    if address not in ("auto", "local"):
        _check_reachable(address)
    try:
        ray.init(
            address=address,
            namespace="lossylens",
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=False if address == "local" else None,
        )
    except (ConnectionError, ValueError, OSError) as error:
        raise RequirementError(
            f"run.executor.address: no Ray cluster at {address}: {_line(error)}"
        ) from error
    except (RuntimeError, RayError) as error:
        raise RequirementError(f"run.executor.address: {address}: {_line(error)}") from error


#: What an HTTP/2 client begins with, and an empty frame of settings, with which its server does.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def _check_reachable(address: str) -> None:
    """Make sure that a server of Ray's kind listens, which Ray would wait for for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as link:
            if not _speaks_http2(link):
                raise RequirementError(
                    f"run.executor.address: no Ray cluster at {address}, but another server; the"
                    " address is that of `ray status`, by default with port 6379"
                )
    except ValueError:
        raise RequirementError(
            f"run.executor.address: expected HOST:PORT, auto or local, got {address!r}"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise RequirementError(
            f"run.executor.address: no Ray cluster at {address}: {reason}"
        ) from error


def _speaks_http2(link: socket.socket) -> bool:
    """Whether a server answers as HTTP/2 wants it (RFC 9113, 3.4), which Ray's head speaks."""
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return True  # Ray encrypts; nothing plain is understood
    link.sendall(_PREFACE + _SETTINGS)
    begun = b""
    while len(begun) < len(_SETTINGS) and (more := link.recv(len(_SETTINGS) - len(begun))):
        begun += more
    return len(begun) == len(_SETTINGS) and begun[3] == _SETTINGS[3]


def _line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())[:300]
