"""A function from bytes to bytes in a process of its own.

For decoders in native libraries that put no bound on memory, or may crash, when they
are given hostile data.  The process is started once and kept; where it dies, or does
not answer in time, the call fails and the next one starts another.

The function is named, ``"package.module:function"``, and imported over there.  It
takes and returns ``bytes``, and raises :class:`ValueError` for data that it refuses.
"""

from __future__ import annotations

import os
import pkgutil
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from lossylens.errors import LossylensError
from lossylens.executor import Begin, Resources
from lossylens.failure import Failure
from lossylens.run.executors.child import limit_address_space
from lossylens.run.executors.process import BoundedFunction

#: Seconds that a process gets to start and to import its function.
_START = 120.0


class RefusedError(Exception):
    """The function refused the data, or what it did to them ended the process."""


@lru_cache
def isolated(function: str, *, seconds: float, memory: int) -> IsolatedFunction:
    """Return the process of *function*; one for all who ask for the same.

    Args:
        function: import path, ``"package.module:function"``.
        seconds: that a call may take.
        memory: bytes of address space that a call may take, where the system can
            bound it.
    """
    return IsolatedFunction(function, seconds=seconds, memory=memory)


class IsolatedFunction:
    """See :func:`isolated`, which shares processes; this has one to itself."""

    def __init__(self, function: str, *, seconds: float, memory: int) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        recipe = _Recipe(function, memory)
        self._call: BoundedFunction[bytes, bytes | str] = BoundedFunction(
            recipe, Resources(seconds=seconds), starting=_START
        )

    def __call__(self, data: bytes) -> bytes:
        """Return what the function makes of *data*.

        Raises:
            RefusedError: it refused them, crashed, or took too much time or memory.
            RuntimeError: the function cannot be imported.
        """
        with self._lock:
            try:
                answer = self._call(data)
            except LossylensError as error:
                raise RuntimeError(str(error)) from error
        if isinstance(answer, Failure):
            late = answer.fault == "timeout"
            why = f"took more than {self._seconds:g} s" if late else "crashed"
            raise RefusedError(f"decoding {why}")
        if isinstance(answer, str):
            raise RefusedError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self._call.close()


@dataclass(frozen=True)
class _Recipe:
    """What the process does; see :class:`lossylens.executor.Recipe`."""

    function: str
    memory: int

    @property
    def title(self) -> str:
        return self.function

    def start(self) -> Callable[[Iterator[bytes], Begin], Generator[bytes | str, None, None]]:
        function: Callable[[bytes], bytes] = pkgutil.resolve_name(self.function)
        # What a library says of damaged data is no news.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        limit_address_space(self.memory)
        return partial(_answers, function)


def _answers(
    function: Callable[[bytes], bytes], calls: Iterator[bytes], begin: Begin
) -> Generator[bytes | str, None, None]:
    """Yield what *function* makes of each call's data, or in words why it refuses them."""
    for data in calls:
        try:
            answer: bytes | str = function(data)
        except (ValueError, MemoryError) as error:
            answer = str(error) or "out of memory"
        except Exception:
            # As a library does that data have led astray.
            os.abort()
        yield answer
