"""Finding the user's encoder and decoder programs, and saying exactly which they are; light."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lossylens.errors import RequirementError
from lossylens.spec import Missing

from lossylens_toolkit.checksums import Identity, file_checksums, file_identity

#: Seconds for a program to say its version.
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """A program that the user has to provide.

    Attributes:
        what: in words, such as ``"HM encoder"``.
        option: the codec's option that gives its path.
        variable: environment variable that gives its path.
        names: file names to look for on ``PATH``, in order.
        source: where to get it.
        banner: regular expression that its line with the version matches.
        asking: arguments that make it say its version, and do little else.
    """

    what: str
    option: str
    variable: str
    names: tuple[str, ...]
    source: str
    banner: str
    asking: tuple[str, ...] = ()


def find_program(program: Program, given: Path | None) -> Path | None:
    """Return the program's file, or None: by option, environment variable, or ``PATH``.

    Option and variable may also name a folder that holds it.  Where one of them is
    given, nothing else is tried.
    """
    named = given or _from_environment(program.variable)
    if named is None:
        import shutil

        found = next(filter(None, map(shutil.which, program.names)), None)
        return Path(found).resolve() if found else None
    candidates = [named / name for name in program.names] if named.is_dir() else [named]
    usable = (path for path in candidates if path.is_file() and os.access(path, os.X_OK))
    found_path = next(usable, None)
    return found_path.resolve() if found_path else None


def missing_program(program: Program, given: Path | None) -> list[Missing]:
    """Return what to tell the user where the program is not found, or is another; else nothing."""
    try:
        require_program(program, given)
    except _MissingProgram as error:
        return [error.missing]
    return []


class _MissingProgram(RequirementError):  # noqa: N818  # never seen by this name
    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.missing = Missing(what, remedy)


def require_program(program: Program, given: Path | None) -> Path:
    """Return the program's file; the program has said that it is what it should be.

    Raises:
        RequirementError: it is not there, does not start, or is another program.
    """
    remedy = f"{program.source}; then set option {program.option} or {program.variable}"
    found = find_program(program, given)
    if found is None:
        named = given or _from_environment(program.variable)
        where = f"at {named}" if named else f"as {' or '.join(program.names)} on PATH"
        raise _MissingProgram(f"{program.what} (no executable {where})", remedy)
    try:
        version(program, found)
    except RequirementError as error:
        raise _MissingProgram(str(error), remedy) from error
    return found


def version(program: Program, path: Path) -> str:
    """Return the line in which the program at *path* says its version.

    Raises:
        RequirementError: it does not start, or is another program.
    """
    return _version(program, path, file_identity(path))


@lru_cache
def _version(program: Program, path: Path, identity: Identity) -> str:
    # Imported here, because plugins that are only listed import this module.
    from lossylens_toolkit.external_codec.program_running import (
        ProgramError,
        run_program,
        workspace,
    )

    with workspace() as folder:
        try:
            # Reference software ends with an error when it has nothing to do, and says
            # its version before all that it could do.
            output = run_program(
                [path, *program.asking], folder=folder, seconds=_PATIENCE, any_status=True
            )
        except ProgramError as error:
            raise RequirementError(f"{program.what} {path} cannot be run: {error}") from error
    for line in output.splitlines():
        if re.search(program.banner, line):
            return " ".join(line.split())
    said = next((line for line in output.splitlines() if line.strip()), "nothing")
    raise RequirementError(f"{path} is no {program.what}: it says {said.strip()[:80]!r}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; read again only when it has changed."""
    return file_checksums(path, "sha256")["sha256"]


def find_beside(program: Path, folder: str, name: str) -> Path | None:
    """Return *name* in a *folder* beside *program* or beside a folder above it."""
    candidates = (parent / folder / name for parent in program.parents)
    return next((path for path in candidates if path.is_file()), None)


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None
