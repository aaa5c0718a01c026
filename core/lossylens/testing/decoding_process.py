"""A process that decodes what may be hostile, held to a time and to an amount of memory.

Memory is address space (the peak that Linux keeps for each process), so that an
allocation counts whether or not it is touched, and the peak of the resident memory of
each program that a codec starts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lossylens.codec import Codec
from lossylens.errors import BitstreamError
from lossylens.registry.plugins import load_registry

#: Settings under which one bitstream gives one picture: numbers of threads, and a
#: processor without its newer instructions, as libraries of numbers know them.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "one-thread": {"OMP_NUM_THREADS": "1"},
    "three-threads": {"OMP_NUM_THREADS": "3"},
    "old-instructions": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}

#: Seconds that a process gets to start, import libraries and load weights.
_START = 300.0

#: Seconds between two looks at the programs that a codec has started.
_INTERVAL = 0.002


@dataclass(frozen=True)
class Outcome:
    """What became of one bitstream.

    Attributes:
        mode, size, pixels: of the image, if there is one.
        refusal: message of the :class:`~lossylens.errors.BitstreamError`, if it was
            refused.
        problem: what a codec must never do, if it did.
        spent: whether the process is of no more use.
    """

    mode: str = ""
    size: tuple[int, int] = (0, 0)
    pixels: bytes = b""
    refusal: str | None = None
    problem: str = ""
    spent: bool = False

    @property
    def words(self) -> str:
        """What became of it, to be read behind what it became of."""
        if self.problem:
            return self.problem
        if self.refusal is None:
            return f"a {self.mode} image of {self.size}"
        return f"a BitstreamError, {self.refusal!r}" if self.refusal else "a BitstreamError"


class DecodingProcess:
    """Decodes bitstreams of one codec in a process of its own.

    Args:
        name: of the codec.
        options: as in a configuration.
        sound: level and bitstream that are decoded first, so that what the codec
            loads for good is not counted.
        seconds: that decoding may take.
        memory: bytes that decoding may take.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        sound: tuple[str, bytes],
        *,
        seconds: float,
        memory: int,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.seconds, self.memory = seconds, memory
        self._environment = environment
        self._arguments = (name, dict(options), sound, memory)
        self._process: BaseProcess | None = None
        self._never = Outcome()
        self._pipe: Connection[Any, Any]

    def decode(self, level: str, bitstream: bytes, *, pixels: bool = False) -> Outcome:
        """Decode *bitstream* at *level*; return the image's pixels if they are wanted."""
        outcome = self._started()
        if not outcome.problem:
            self._pipe.send((level, bitstream, pixels))
            outcome = self._receive(self.seconds, f"still decoding after {self.seconds:.3g} s")
        if outcome.spent:
            self.close()
        return outcome

    def _started(self) -> Outcome:
        """Make sure that there is a process, which can decode a sound bitstream."""
        if self._process is not None or self._never.problem:
            return self._never
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        with in_environment(self._environment):
            self._process.start()
        theirs.close()
        outcome = self._receive(_START, f"not ready after {_START:g} s")
        if outcome.problem:
            # It would fail in the same way for every bitstream.
            self._never = outcome
        return outcome

    def _receive(self, seconds: float, late: str) -> Outcome:
        assert self._process is not None
        try:
            if not self._pipe.poll(seconds):
                return Outcome(problem=late, spent=True)
            outcome: Outcome = self._pipe.recv()
            return outcome
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return Outcome(problem=f"the process died: {how}", spent=True)

    def close(self) -> None:
        """End the process and what it has started."""
        if self._process is None:
            return
        self._pipe.close()
        if self._process.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._process = None


@contextlib.contextmanager
def in_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Give *variables* to the processes that are started within."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(
    pipe: Connection[Any, Any],
    name: str,
    options: Mapping[str, Any],
    sound: tuple[str, bytes],
    memory: int,
) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    programs = _Programs()
    programs.start()
    registry = load_registry()
    codecs: dict[str, Codec] = {}

    def decode(level: str, bitstream: bytes, pixels: bool) -> Outcome:
        if level not in codecs:
            codecs[level] = registry.build_codec(name, level, options)
        return _decoded(codecs[level], bitstream, pixels)

    first = decode(*sound, False)
    if first.refusal is not None:
        first = Outcome(problem=f"refused a sound bitstream: {first.refusal}")
    if first.problem:
        first = replace(first, spent=True)
    pipe.send(first)
    before = _peak()
    # Past this, nothing can be had, so that the machine survives the test.
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    if before:
        resource.setrlimit(resource.RLIMIT_AS, (before + 2 * memory, limit))
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            outcome = decode(*pipe.recv())
            taken = max(_peak() - before, programs.peak)
            if taken > memory:
                # A peak never falls, and what was allocated may still be.
                outcome = Outcome(problem=f"took {taken / 2**30:.1f} GiB of memory", spent=True)
            pipe.send(outcome)


def _decoded(codec: Codec, bitstream: bytes, pixels: bool) -> Outcome:
    try:
        image = codec.decode(bitstream)
        content = image.tobytes() if pixels else b""
        return Outcome(mode=image.mode, size=image.size, pixels=content)
    except BitstreamError as error:
        if _out_of_memory(error):
            return Outcome(problem=f"ran out of memory: {error}", spent=True)
        return Outcome(refusal=str(error))
    except Exception as error:
        return Outcome(problem=f"raised {raised(error)}")


def raised(error: BaseException) -> str:
    """Return an exception in words, with the place that it comes from."""
    (*_, frame) = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether an error comes from another that says there is no memory."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _peak() -> int:
    """Return the largest address space that this process has had; 0 if it is not told."""
    return _told("self", "VmPeak")


def _told(process: str, field: str) -> int:
    """Return what Linux tells of a process, in bytes; 0 if it is not told."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)


class _Programs(threading.Thread):
    """Watches the resident memory of the programs that this process starts.

    The system keeps the peak of those that have ended, but it begins with that of this
    process, of which each was a copy.  Only above that it is the program's own; below,
    it is what was seen while the program ran.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seen = 0
        self._own = _command_line("self")

    @property
    def peak(self) -> int:
        """The peak of the largest program, in bytes."""
        ended, own = (
            1024 * resource.getrusage(whose).ru_maxrss
            for whose in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
        )
        return ended if ended > own else self._seen

    def run(self) -> None:
        """Look at them again and again."""
        never = threading.Event()
        while not never.wait(_INTERVAL):
            for process in _started_by("self"):
                # What is a copy of this process as yet is no program.
                if _command_line(process) != self._own:
                    self._seen = max(self._seen, _told(process, "VmHWM"))


def _started_by(process: str) -> list[str]:
    """Return the processes that a process has started, and those that these have."""
    found: list[str] = []
    with contextlib.suppress(OSError):  # it may be ending
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            found += path.read_text().split()
    return found + [each for child in found for each in _started_by(child)]


def _command_line(process: str) -> bytes:
    """Return the command line of a process, which its copies have as well."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
