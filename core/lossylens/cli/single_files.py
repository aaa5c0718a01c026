"""What commands on single files share: reading, writing, ``--option``."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lossylens.errors import BitstreamError, ConfigError, ImageError


def read_input(path: Path) -> bytes:
    """Return the content of *path*.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {_reason(error)}") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put *path* before the message of an error about its content."""
    try:
        yield
    except (ImageError, BitstreamError) as error:
        raise type(error)(f"{path}: {error}") from error


def check_output(path: Path, source: Path) -> None:
    """Make sure that *path* can be written without losing *source*.

    Raises:
        ConfigError: it is the input, its folder is missing, or it is there and
            not a regular file.
    """
    if path.exists():
        if not path.is_file():
            raise ConfigError(f"cannot write {path}: it is not a regular file")
        if source.exists() and path.samefile(source):
            raise ConfigError(f"cannot write {path}: it is the input")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")


def write_output(path: Path, content: bytes) -> None:
    """Write *content* so that *path* is either complete or as it was before.

    Raises:
        ConfigError: it cannot be written.
    """
    target = path.resolve()  # a link stays a link
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {_reason(error)}") from error


def parse_options(pairs: Sequence[str] | None, option: str = "--option") -> dict[str, Any]:
    """Return what ``--option`` says, given as often as the user likes; keys may have dots.

    Args:
        pairs: ``key=value``; None where it is not given.
        option: what it is called.

    Raises:
        ConfigError: a pair is malformed, or a key is given twice.
    """
    from lossylens.options.overrides import parse_pairs

    return parse_pairs(pairs or (), option)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
