"""Failures that are recorded, apart from errors that stop a run.

A failure is the sample's own where the contracts provide for it (an image that a format
cannot carry, a damaged bitstream), transient where it may pass (a server, memory), and
else a *fault*: an exception that no contract mentions, so probably of the plugin.
:class:`FaultWatch` stops a run that meets nothing but faults.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lossylens.errors import (
    BitstreamError,
    DataError,
    ImageError,
    LossylensError,
    PluginError,
    TransientError,
    describe,
)

A = TypeVar("A")
R = TypeVar("R")

#: Longest reason that is kept; an exception may hold all that a program has printed.
REASON_LENGTH = 600
_TRACE_LENGTH = 20_000

#: A plugin is at fault when so many images fail in the same way, at the very beginning
#: of its work at a codec and level, or anywhere.
_AT_FIRST, _IN_A_ROW = 10, 25

# What the machine or the network is short of for a while.
_PASSING = {
    errno.EAGAIN,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.ESTALE,
}
# Libraries of remote services and devices have exceptions of their own.
_PASSING_NAMES = re.compile(r"Timeout|Timed?Out|Connect|OutOfMemory|RateLimit|Unavailable")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result, in words.

    Attributes:
        reason: at most :data:`REASON_LENGTH` characters; the middle of longer ones is cut.
        transient: whether it may pass, so that a later start tries again.
        fault: what tells one fault of a plugin from another; ``""`` where the failure is
            the sample's own or may pass.
        trace: where a fault was raised.
        died: where the process that worked on it ended, how many jobs it had at hand; else 0.
    """

    reason: str
    transient: bool = False
    fault: str = field(default="", compare=False)
    trace: str = field(default="", compare=False, repr=False)
    died: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", shortened(self.reason, REASON_LENGTH))
        object.__setattr__(self, "trace", shortened(self.trace, _TRACE_LENGTH))


def shortened(text: str, length: int) -> str:
    """Return *text*, without its middle where it is longer than *length*."""
    if len(text) <= length:
        return text
    mark = f" [... {len(text) - length} characters ...] "
    kept = max(0, length - len(mark))
    return text[: kept - kept // 3] + mark + text[len(text) - kept // 3 :]


def attempt(function: Callable[[A], R], argument: A) -> R | Failure:
    """Return the result of *function*, or a failure where it raises.

    ``sys.exit()`` in a plugin is an exception like any other.

    Raises:
        LossylensError: one that is not about this argument alone, such as a missing
            requirement.
    """
    try:
        return function(argument)
    except (ImageError, BitstreamError, DataError) as error:
        return Failure(str(error))
    except TransientError as error:
        return Failure(str(error), transient=True)
    except LossylensError:
        raise
    except (Exception, SystemExit) as error:
        if may_pass(error):
            return Failure(describe(error), transient=True)
        trace = "".join(traceback.format_exception(error))
        return Failure(describe(error), fault=f"{type(error).__name__} {place(error)}", trace=trace)


def may_pass(error: BaseException) -> bool:
    """Whether *error* speaks of memory, space, time or a connection."""
    if isinstance(error, MemoryError | ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    names = (each.__name__ for each in type(error).__mro__)
    return isinstance(error, Exception) and any(map(_PASSING_NAMES.search, names))


def place(error: BaseException) -> str:
    """Return file and line in which *error* was raised, ``""`` if it was not."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


@contextmanager
def guarded(who: str, what: str) -> Iterator[None]:
    """Turn what a plugin raises against its contract into an error that names it.

    Args:
        who: the plugin, such as ``"task 'pope'"``.
        what: what it was asked to do, such as ``"score()"``.

    Raises:
        PluginError: in place of any exception but a :class:`LossylensError`.
    """
    try:
        yield
    except LossylensError:
        raise
    except OSError as error:
        # A file that is missing, or a disk that is full, is shown as such.
        if error.filename is not None or error.errno in _PASSING:
            raise
        raise PluginError(f"{who}: {what} raised {_told(error)}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{who}: {what} raised {_told(error)}") from error


def _told(error: BaseException) -> str:
    return f"{shortened(describe(error), REASON_LENGTH)} ({place(error)})"


class FaultError(PluginError):
    """A plugin is at fault; nothing more is asked of it in this run.

    Attributes:
        kind: ``"codec"`` or ``"vlm"``.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class FaultWatch:
    """Notices when it is the plugin that fails, not its images.

    One for each stage of a plugin's work at one codec and level.  The failures of a row of
    equal faults are held back until something else happens, so that a run which leaves the
    plugin alone has not recorded them as the images' own.

    Args:
        kind: of the plugin, ``"codec"`` or ``"vlm"``.
        who: the plugin, such as ``"the decoder of codec 'elic'"``.
        folder: of the run, where the traceback is written.
    """

    def __init__(self, kind: str, who: str, folder: Path) -> None:
        self._kind, self._who, self._folder = kind, who, folder
        self._fault = ""
        self._held: list[Callable[[], None]] = []
        self._done = 0

    def succeeded(self) -> None:
        """Take note of a result."""
        self._done += 1
        self.release()

    def failed(self, failure: Failure, record: Callable[[], None]) -> None:
        """Take note of a failure.

        Args:
            failure: why there is no result.
            record: keeps it; called now or later, but not if the plugin is at fault.

        Raises:
            FaultError: the plugin is at fault.
        """
        if failure.fault != self._fault:
            self.release()
            self._fault = failure.fault
        if not failure.fault:
            self._done += 1
            record()
            return
        self._held.append(record)
        count = len(self._held)
        if count >= (_IN_A_ROW if self._done else _AT_FIRST):
            self._held.clear()
            raise FaultError(self._verdict(failure, count), self._kind)

    def release(self) -> None:
        """Record what was held back."""
        held, self._held, self._fault = self._held, [], ""
        self._done += len(held)
        for record in held:
            record()

    def _verdict(self, failure: Failure, count: int) -> str:
        first = "in a row" if self._done else "one after the other, the first ones"
        lines = [
            f"{self._who} failed on {count} images {first}, always with the same fault:"
            f" {failure.reason}"
        ]
        if failure.trace:
            path = (
                self._folder / "faults" / f"{re.sub(r'[^a-z0-9.-]+', '-', self._who.lower())}.txt"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(failure.trace, encoding="utf-8", errors="replace")
            lines.append(f"The traceback is in {path}.")
        lines.append(
            "Nothing more is asked of it; these failures are not recorded, so the same command"
            " tries again when it is mended."
        )
        return " ".join(lines)
