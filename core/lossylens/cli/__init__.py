"""The command line: errors, exit codes and start-up.

The commands are listed in :mod:`lossylens.cli.commands`; each has a module of
its own, which is imported when it is called.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Sequence
from typing import Any

from lossylens.errors import LossylensError
from lossylens.run.threads import wait_passively

#: Exit codes, besides 0.
FAILED, USAGE, INTERRUPTED, CLOSED_PIPE = 1, 2, 130, 141

# What the user's paths, disk and limits cause; any other OSError is a bug.
_ENVIRONMENT = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
    errno.EROFS,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    An error that the user can act on is shown as its message alone; any other
    exception is a bug and keeps its traceback.

    Args:
        arguments: without the name of the program; None takes those of the
            process.
    """
    if os.name == "nt":
        return _fail(
            "Windows is not supported: workers are bounded by process groups and memory limits"
            " of POSIX; run lossylens in WSL, https://learn.microsoft.com/windows/wsl"
        )
    wait_passively()
    try:
        code = _run(arguments)
        if sys.stdout:
            sys.stdout.flush()
        return code
    except LossylensError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        if not stdout_is_closed():
            raise
        return CLOSED_PIPE
    except OSError as error:
        if error.errno not in _ENVIRONMENT:
            raise
        where = (
            f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        )
        return _fail(f"{where}{error.strerror}")


def _run(arguments: Sequence[str] | None) -> int:
    from lossylens.cli.commands import build

    try:
        code = build()(args=arguments, prog_name="lossylens", standalone_mode=False)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        # Errors of the command line itself, whose module depends on the version of typer.
        if type(error).__name__ == "Abort":  # the end of the input, where a question is asked
            return INTERRUPTED
        if not hasattr(error, "format_message"):
            raise
        return _refuse(error)
    return code if isinstance(code, int) else 0


def _refuse(error: Any) -> int:
    """Say what is wrong with the arguments, or, where there are none, what there can be."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help())
        return USAGE
    context = getattr(error, "ctx", None)
    hint = f" See `{context.command_path} --help`." if context else ""
    message = " ".join(error.format_message().split())
    return _fail(f"{message}{'' if message.endswith(('.', '?')) else '.'}{hint}")


def _fail(message: str) -> int:
    print(f"lossylens: {message}", file=sys.stderr)
    return USAGE


def stdout_is_closed() -> bool:
    """Whether the reader of standard output has gone, as ``| head`` does.

    If so, nothing more is written to it, so that the interpreter has nothing to
    complain about when it exits.
    """
    if not sys.stdout:
        return False
    target = sys.stdout.fileno()
    poll = select.poll()
    poll.register(target, 0)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), target)
    return True
