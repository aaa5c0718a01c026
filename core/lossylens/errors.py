"""Errors that the user can act on.

Every :class:`LossylensError` is shown by the command line as its message
alone, without a traceback, so the message says what is wrong, where (file,
row, key, plugin) and what to do.  Any other exception is a bug and keeps its
traceback.
"""

from __future__ import annotations


class LossylensError(Exception):
    """Base of all errors caused by input, configuration or environment."""


class ConfigError(LossylensError):
    """A configuration has a wrong key, type, name or path."""


class PluginError(LossylensError):
    """A plugin is unknown, broken, clashing or incompatible."""


class RequirementError(LossylensError):
    """Something a plugin needs (binary, checkpoint, package) is missing."""


class DataError(LossylensError):
    """Task data or predictions are malformed."""


class ImageError(LossylensError):
    """An image cannot be read, or is refused (too large, hostile)."""


class BitstreamError(LossylensError):
    """A bitstream is damaged, truncated, or of another codec, level or version."""


class TransientError(LossylensError):
    """Something failed that may pass, such as a server or memory; what it touched is done again.

    Raised where one image or question is worked on, it fails those alone.
    """


class StoreError(LossylensError):
    """A run folder cannot be opened, read or written."""


def describe(error: BaseException) -> str:
    """Return *error* in words: an error for users as it is, others with their type."""
    if isinstance(error, LossylensError):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
