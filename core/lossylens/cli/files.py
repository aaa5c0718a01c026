"""What commands on single files share: reading, writing, ``--option``."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
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


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Return ``key=value`` pairs as a mapping; their types come from the plugin.

    Values stay text, which the plugin's option types convert, except for lists,
    mappings and ``null``, which are read as YAML.

    Raises:
        ConfigError: a pair without ``=``, without a key, or with broken YAML.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"--option {pair}: expected key=value")
        if key in values:
            raise ConfigError(f"--option {pair}: {key} is given twice")
        values[key] = _value(pair, text)
    return values


def _value(pair: str, text: str) -> Any:
    # YAML reads plain text such as 4:2:0 or 012 as numbers, so it is asked only
    # where it must be.
    if text != "null" and not text.startswith(("[", "{")):
        return text
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--option {pair}: malformed YAML: {reason}") from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
