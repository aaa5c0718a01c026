"""Running one program in a folder of its own: a time limit, nothing left behind.

A program and all that it starts are a process group, which is ended as soon as the
program is, when its time is up, and when this process ends in whatever way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import lock_descriptor
from lossylens.errors import RequirementError, TransientError
from lossylens.run.executors.child import ending, kill_group

#: Names of folders begin with this, so that stale ones are found.
_PREFIX = "lossylens-codec-"
_LOCK = ".lock"
#: A folder without an owner is removed when it is older than this, in seconds.  An
#: owner has its lock long before.
_STALE = 600.0
#: Bytes of a program's output that are read, at its beginning and at its end, and how
#: many lines of it an error quotes.
_PART, _QUOTED_LINES = 1 << 16, 4
#: Lines that say why a program failed, and lines that only look so.
_TELLING = re.compile(
    r"error|fail|cannot|can't|can not|could not|unable|unknown|unrecogni[sz]ed|invalid|illegal"
    r"|unsupported|not (a|an|allowed|found|in range|permitted|supported)\b|no (such|space)|denied"
    r"|exceed|out of (memory|range)|\bmust\b|assert|exception|terminat|abort|fatal|\bfault|killed",
    re.IGNORECASE,
)
_NOT_TELLING = re.compile("warning", re.IGNORECASE)
#: A program may write files up to this size, beyond what the caller announces.
_FILE_SLACK = 16 << 20
#: A folder where this many bytes cannot be written is full.  A program that fails for
#: want of space leaves less than a block, other programs may have freed some since.
_ROOM = 1 << 20
#: Ends a process group, its own, when the other end of its standard input is closed,
#: which the system does for a process that is killed.  Nothing of a user's is in it.
_GUARD = ("/bin/sh", "-c", "read line; kill -s KILL 0")
#: Signals by which others end a program: the user, a batch system, or the system when
#: memory is short.  A program that is at fault ends by another.
_FROM_OUTSIDE = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
#: Why a program is not started that might be a little later.
_SCARCE = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETXTBSY)


class ProgramError(Exception):
    """A program failed; the message says how, with lines of its output."""


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Give a new folder for temporary files, and remove it whatever happens.

    A process that is killed cannot; what it leaves is removed by the next one that
    comes here.

    Raises:
        TransientError: files cannot be written there.  It takes the place of a
            :class:`ProgramError` where the disk is full, whatever the program made of
            that, since some end with exit code 0.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise TransientError(f"no temporary folder can be made: {_reason(error)}") from error
    try:
        with _locked(folder):
            _remove_stale(folder.parent)
            yield folder
    except OSError as error:
        raise _unusable(folder, error) from error
    except ProgramError:
        _check_room(folder)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_room(folder: Path) -> None:
    """Make sure that the disk is not full."""
    try:
        (folder / ".room").write_bytes(bytes(_ROOM))
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: OSError) -> TransientError:
    return TransientError(
        f"cannot write temporary files in {folder.parent}: {_reason(error)}; free space there,"
        " or name another folder by TMPDIR"
    )


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go when this process ends."""
    with (folder / _LOCK).open("wb") as file:
        lock_descriptor(file.fileno(), blocking=False)
        yield


def _remove_stale(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        # Others' folders cannot be opened; and another process may be removing this one.
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime > time.time() - _STALE:
                continue
            with (folder / _LOCK).open("ab") as file:
                if lock_descriptor(file.fileno(), blocking=False):
                    shutil.rmtree(folder, ignore_errors=True)


def run_program(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    seconds: float,
    file_size: int = 0,
    any_status: bool = False,
) -> str:
    """Run a program in *folder* to its end; return the beginning and the end of its output.

    Args:
        arguments: absolute path of the program, and its arguments.
        folder: working directory; a file ``.output`` is written there.
        seconds: time limit, after which it is killed, and what it has started too.
        file_size: bytes of the largest file that it rightly writes; where the system
            can, it is killed when it writes much more.
        any_status: whether exit codes other than 0 are fine.

    Raises:
        RequirementError: it cannot be started.
        TransientError: it was ended by others, or the system has no room for it.
        ProgramError: it took too long, or failed.
    """
    path = folder / ".output"
    late = threading.Event()
    with _process_group() as group:
        process = _start(arguments, folder, path, group)

        def end() -> None:
            late.set()
            kill_group(group)

        # Waiting with a time limit would look only every 50 ms whether it is done.
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        try:
            timer.start()
            _limit_files(process.pid, file_size + _FILE_SLACK)
            status = process.wait()
        finally:
            timer.cancel()
            kill_group(group)
            process.wait()
            if timer.is_alive():
                timer.join()  # so that it ends no group that has this one's number later
    said = _text(path)
    if status and late.is_set():
        raise ProgramError(f"it was ended after {seconds:g} s{quoted(said)}")
    if _signal(status) in _FROM_OUTSIDE:
        raise TransientError(
            f"it was ended from outside, or for want of memory ({ending(status)}){quoted(said)}"
        )
    if status and not any_status:
        raise ProgramError(f"{ending(status)}{quoted(said)}")
    return said


@contextlib.contextmanager
def _process_group() -> Iterator[int]:
    """Give a process group that ends with this block, or else with this process.

    Its first member waits for the end of this process.  So there is no moment in which a
    program could be left alone: it enters the group before it begins, and cannot when
    the group is gone.
    """
    guard = _popen(_GUARD, cwd="/", stdin=subprocess.PIPE, process_group=0)
    try:
        yield guard.pid
    finally:
        kill_group(guard.pid)
        guard.communicate()


def _start(
    arguments: Sequence[str | Path], folder: Path, output: Path, group: int
) -> subprocess.Popen[bytes]:
    # A file and not a pipe: a pipe that is not emptied stops the program.
    with output.open("wb") as file:
        return _popen(
            [os.fspath(each) for each in arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=group,
        )


def _popen(arguments: Sequence[str], **settings: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(arguments, **settings)  # noqa: S603  # the user's own program
    except OSError as error:
        message = f"{arguments[0]} cannot be run: {_reason(error)}"
        if error.errno in _SCARCE:
            raise TransientError(message) from error
        raise RequirementError(message) from error


def _limit_files(process: int, size: int) -> None:
    # A damaged bitstream can make a decoder write frames, or warnings, without end.
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, size))


def _signal(status: int) -> int:
    """Return the signal that ended a program, or a program that a shell script ran; or 0."""
    return -status if status < 0 else max(0, status - 128)


def _text(path: Path) -> str:
    """Return beginning and end of the output; reference software writes NUL bytes in it."""
    with path.open("rb") as file:
        data = file.read(_PART)
        rest = path.stat().st_size - _PART
        if rest > _PART:
            file.seek(-_PART, os.SEEK_END)
            data += b"\n"
        data += file.read()
    return data.decode(errors="replace").replace("\0", "")


def quoted(output: str) -> str:
    """Return what to quote of a program's output: lines that speak of an error, then the last."""
    lines = [" ".join(line.split())[:200] for line in output.splitlines()]
    lines = list(dict.fromkeys(line for line in lines if re.search(r"\w", line)))
    telling = [line for line in lines if _TELLING.search(line) and not _NOT_TELLING.search(line)]
    chosen = telling[:_QUOTED_LINES]
    room = _QUOTED_LINES - len(chosen)
    chosen += [line for line in lines if line not in chosen][-room:] if room else []
    return f"; it said: {' | '.join(chosen)}" if chosen else "; it said nothing"
