"""Running one program in a folder of its own: no shell, a time limit, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Names of folders begin with this, so that stale ones are found.
_PREFIX = "lossylens-codec-"
_LOCK = ".lock"
#: A folder without an owner is removed when it is older than this, in seconds.  An
#: owner has its lock long before.
_STALE = 600.0
#: How much of a program's output is kept: the last lines, and bytes.
_TAIL_LINES, _TAIL_BYTES = 4, 1 << 16
#: A program may write files up to this size, beyond what the caller announces.
_FILE_SLACK = 16 << 20


class ProgramError(Exception):
    """A program failed; the message says how, with the last lines of its output."""


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Give a new folder for temporary files, and remove it whatever happens.

    A process that is killed cannot; what it leaves is removed by the next one that
    comes here.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with _locked(folder):
            _remove_stale(folder.parent)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system lets go when this process ends."""
    try:
        import fcntl
    except ImportError:  # Windows, where stale folders are left to the system
        yield
        return
    with (folder / _LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _remove_stale(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        # Others' folders cannot be opened; and another process may be removing this one.
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            if folder.stat().st_mtime > time.time() - _STALE:
                continue
            with (folder / _LOCK).open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def run_program(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    seconds: float,
    file_size: int = 0,
    any_status: bool = False,
) -> str:
    """Run a program in *folder* to its end; return the last part of its output.

    Args:
        arguments: absolute path of the program, and its arguments.
        folder: working directory; a file ``.output`` is written there.
        seconds: time limit, after which it is killed.
        file_size: bytes of the largest file that it rightly writes; where the system
            can, it is killed when it writes much more.
        any_status: whether exit codes other than 0 are fine.

    Raises:
        ProgramError: it cannot be started, took too long, or failed.
    """
    path = folder / ".output"
    # A file and not a pipe: what the program has started itself may outlive it and
    # would keep a pipe open.
    with path.open("wb") as output:
        try:
            process = subprocess.Popen(  # noqa: S603  # the user's own program, no shell
                [os.fspath(each) for each in arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise ProgramError(f"it does not start: {error.strerror or error}") from error
    # Waiting with a time limit would look only every 50 ms whether it is done.
    timer = threading.Timer(seconds, process.kill)
    try:
        _limit_files(process.pid, file_size + _FILE_SLACK)
        started = time.monotonic()
        timer.start()
        status = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    if status == -signal.SIGKILL and time.monotonic() - started >= seconds:
        raise ProgramError(f"it was ended after {seconds:g} s{_tail(path)}")
    if status and not any_status:
        raise ProgramError(f"{_ending(status)}{_tail(path)}")
    return _text(path)


def _limit_files(process: int, size: int) -> None:
    # A damaged bitstream can make a decoder write frames, or warnings, without end.
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, size))


def _ending(status: int) -> str:
    if status > 0:
        return f"exit code {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def _text(path: Path) -> str:
    """Return the last part of the output; reference software writes NUL bytes in it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace").replace("\0", "")


def _tail(path: Path) -> str:
    lines = [" ".join(line.split())[:200] for line in _text(path).splitlines() if line.strip()]
    return f"; it said: {' | '.join(lines[-_TAIL_LINES:])}" if lines else "; it said nothing"
