"""How long a server wants to be left alone, and leaving it alone.

Read are ``Retry-After`` (RFC 9110, section 10.2.3: seconds or a date), its finer
form ``retry-after-ms``, and the pairs of remaining requests or tokens and time to
their reset that hosted models send with every reply.
"""

from __future__ import annotations

import email.utils
import math
import random
import re
import threading
import time
from collections.abc import Mapping

#: Headers with what is left of a limit, and when it is whole again.
_LIMITS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
# Larger numbers are points in time since 1970, in seconds or milliseconds.
_EPOCH, _EPOCH_MILLISECONDS = 1e9, 1e12


def requested_pause(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds a reply asks to wait, None if it asks for nothing.

    Args:
        headers: of the reply; names are lower case or matched without case.
    """
    pause = (_number(headers.get("retry-after-ms", "")) or 0.0) / 1000
    if pause <= 0:
        pause = _retry_after(headers.get("retry-after", ""))
    if pause <= 0:
        pause = max(_reset(headers, *names) for names in _LIMITS)
    return pause if pause > 0 else None


def _retry_after(text: str) -> float:
    """Return the seconds of a number or a date, which may be past; 0 for neither."""
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _reset(headers: Mapping[str, str], remaining: str, reset: str) -> float:
    left = _number(headers.get(remaining, ""))
    return _duration(headers.get(reset, "")) if left is not None and left <= 0 else 0.0


def _duration(text: str) -> float:
    """Return the seconds of ``6m0s``, ``20ms``, plain seconds, or a point in time."""
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _SPAN.findall(text))
    number = _number(text)
    if number is None:
        return 0.0
    if number >= _EPOCH_MILLISECONDS:
        number /= 1000
    return max(0.0, number - time.time() if number >= _EPOCH else number)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Gate:
    """Holds back the requests of all threads until the time that a server has named."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opens = 0.0
        self._closed = threading.Event()

    def hold(self, seconds: float) -> None:
        """Let nothing through for so long."""
        with self._lock:
            self._opens = max(self._opens, time.monotonic() + seconds)

    def wait(self) -> None:
        """Return when requests may be sent; threads that waited do not come all at once.

        Raises:
            InterruptedError: the gate was closed.
        """
        self.sleep(0)
        while (left := self._opens - time.monotonic()) > 0:
            self.sleep(left + random.uniform(0, 0.1 * min(left, 10.0)))  # noqa: S311

    def sleep(self, seconds: float) -> None:
        """Wait for so long, or until the gate is closed.

        Raises:
            InterruptedError: it was closed.
        """
        if self._closed.wait(seconds):
            raise InterruptedError("no more requests are wanted")

    def close(self) -> None:
        """Send home whoever waits, now and until it is reopened."""
        self._closed.set()

    def reopen(self) -> None:
        """Let requests wait and pass again."""
        self._closed.clear()


def back_off(tries: int, first: float, longest: float) -> float:
    """Return a pause after the *tries*-th attempt, in seconds: exponential, with jitter.

    Between half and all of ``first * 2 ** (tries - 1)``, so that clients that
    failed together do not come back together.
    """
    # Beyond 2^30 the longest pause is what counts; floats would overflow.
    whole = min(longest, first * 2.0 ** min(tries - 1, 30))
    return random.uniform(whole / 2, whole)  # noqa: S311 - nothing secret
