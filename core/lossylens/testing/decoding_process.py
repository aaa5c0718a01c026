"""A process that decodes what may be hostile, held to a time and to an amount of memory.

Memory is address space (the peak that Linux keeps for each process), so that an
allocation counts whether or not it is touched, and the peak of the resident memory of
each program that a codec starts.
"""

from __future__ import annotations

import contextlib
import resource
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lossylens.codec import Codec
from lossylens.errors import BitstreamError, LossylensError, PluginError
from lossylens.executor import Begin, Resources
from lossylens.failure import Failure
from lossylens.registry.plugins import load_registry
from lossylens.run.executors.child import limit_address_space, peak_address_space, told
from lossylens.run.executors.process import BoundedFunction

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

#: Level, bitstream, and whether the pixels are wanted.
_Job = tuple[str, bytes, bool]

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
        self._decode = BoundedFunction(
            _Recipe(name, dict(options), sound, memory),
            Resources(seconds=seconds),
            environment,
            starting=_START,
        )
        self._never = Outcome()

    def decode(self, level: str, bitstream: bytes, *, pixels: bool = False) -> Outcome:
        """Decode *bitstream* at *level*; return the image's pixels if they are wanted."""
        if self._never.problem:
            return self._never
        try:
            outcome = self._decode((level, bitstream, pixels))
        except LossylensError as error:
            # It would fail in the same way for every bitstream.
            self._never = Outcome(problem=str(error))
            return self._never
        if not isinstance(outcome, Failure):
            if outcome.spent:
                self.close()
            return outcome
        if self._decode.ready:
            return Outcome(problem=_ended(outcome, f"still decoding after {self.seconds:.3g} s"))
        self._never = Outcome(problem=_ended(outcome, f"not ready after {_START:g} s"))
        return self._never

    def close(self) -> None:
        """End the process and what it has started."""
        self._decode.close()


def _ended(failure: Failure, late: str) -> str:
    """Return how a process ended; *late* if it took too long."""
    if failure.fault == "timeout":
        return late
    how = failure.reason.removeprefix("the worker process ").removeprefix("was ")
    return f"the process died: {how}"


@dataclass(frozen=True)
class _Recipe:
    """What the process does; see :class:`lossylens.executor.Recipe`."""

    name: str
    options: Mapping[str, Any]
    sound: tuple[str, bytes]
    memory: int

    @property
    def title(self) -> str:
        return f"codec {self.name!r}"

    def start(self) -> Callable[[Iterator[_Job], Begin], Generator[Outcome, None, None]]:
        programs = _Programs()
        programs.start()
        codecs = _Codecs(self.name, self.options)
        level, bitstream = self.sound
        first = _decoded(codecs[level], bitstream, False)
        if first.refusal is not None:
            raise PluginError(f"refused a sound bitstream: {first.refusal}")
        if first.problem:
            raise PluginError(first.problem)
        # Past this, nothing can be had, so that the machine survives the test.
        before = peak_address_space()
        limit_address_space(2 * self.memory)
        return partial(_outcomes, codecs, programs, before, self.memory)


class _Codecs(dict[str, Codec]):
    """A codec at each level that is asked for."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._name, self._options, self._registry = name, options, load_registry()

    def __missing__(self, level: str) -> Codec:
        self[level] = self._registry.build_codec(self._name, level, self._options)
        return self[level]


def _outcomes(
    codecs: _Codecs,
    programs: _Programs,
    before: int,
    memory: int,
    jobs: Iterator[_Job],
    begin: Begin,
) -> Generator[Outcome, None, None]:
    for level, bitstream, pixels in jobs:
        outcome = _decoded(codecs[level], bitstream, pixels)
        taken = max(peak_address_space() - before, programs.peak)
        if taken > memory:
            # A peak never falls, and what was allocated may still be.
            outcome = Outcome(problem=f"took {taken / 2**30:.1f} GiB of memory", spent=True)
        yield outcome


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
                    self._seen = max(self._seen, told(process, "VmHWM"))


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
